"""Whatever a body holds, the answer is a text or an error in OpenAI's form."""

import json
import sys

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

import main
from commands.streams import WRONG_INPUT
from serving.schemas import ChatRequest, CompletionRequest

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
NAMES = sorted({*ChatRequest.model_fields, *CompletionRequest.model_fields, "tools", "suffix", "x"})
NUMBERS = st.one_of(
    st.integers(-2, 20), st.integers(), st.floats(), st.sampled_from([2**63, -(2**63), 0.5, 1e308])
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=8), st.just("small"))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
PLAUSIBLE = {
    "prompt": st.one_of(st.text(max_size=9), st.lists(st.integers(-1, 330), max_size=70)),
    "messages": st.lists(
        st.fixed_dictionaries(
            {
                "role": st.sampled_from(["system", "user", "assistant", "tool", "developer"]),
                "content": st.one_of(
                    st.text(max_size=9), st.just([{"type": "text", "text": "a"}]), VALUES
                ),
            }
        ),
        max_size=4,
    ),
    "max_tokens": st.integers(-1, 6),
    "temperature": st.sampled_from([0, 1e-9, 0.5, 1, 2, 1e38]),
    "stop": st.one_of(st.text(max_size=3), st.lists(st.text(max_size=3), max_size=3)),
    "logit_bias": st.dictionaries(
        st.one_of(st.integers(-1, 330).map(str), st.text(max_size=2)), NUMBERS, max_size=3
    ),
    "stream_options": st.dictionaries(st.just("include_usage"), VALUES, max_size=1),
}
FIELDS = st.lists(
    st.sampled_from(NAMES).flatmap(
        lambda name: st.tuples(st.just(name), st.one_of(PLAUSIBLE.get(name, VALUES), VALUES))
    ),
    max_size=5,
).map(dict)
BODIES = st.one_of(
    FIELDS.map(lambda body: {"prompt": "The", "max_tokens": 2, **body}),
    FIELDS.map(
        lambda body: {"messages": [{"role": "user", "content": "a"}], "max_tokens": 2, **body}
    ),
    VALUES,
)


def check(client: TestClient, url: str, body: object) -> None:
    answer = client.post(url, content=to_json(body), headers={"content-type": "application/json"})
    assert 200 <= answer.status_code < 300 or 400 <= answer.status_code < 500, answer.text
    assert "Traceback" not in answer.text
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"] and "\n" not in error["message"] and len(error["message"]) < 600
    elif answer.headers["content-type"].startswith("text/event-stream"):
        assert answer.text.endswith("data: [DONE]\n\n") or '"error"' in answer.text
    else:
        assert answer.json()["choices"]


def to_json(body: object) -> bytes:
    return json.dumps(body).encode()  # NaN and Infinity among them, which are no JSON


RANDOM = {
    "deadline": None,
    "derandomize": True,
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
}


@settings(max_examples=100, **RANDOM)
@given(body=BODIES)
@pytest.mark.parametrize("url", [COMPLETIONS, CHAT])
def test_200_random_bodies(client: TestClient, url: str, body: object) -> None:
    check(client, url, body)


@pytest.mark.slow
@settings(max_examples=1000, **{**RANDOM, "derandomize": False})
@given(body=BODIES)
@pytest.mark.parametrize("url", [COMPLETIONS, CHAT])
def test_2000_random_bodies(client: TestClient, url: str, body: object) -> None:
    check(client, url, body)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000, b'{"prompt": "\\ud800"}',
        b'{"prompt": NaN}', b'{"seed": ' + b"9" * 5000 + b"}", b'{"temperature": 1e999}',
        b'{"prompt": "a", "x": ' + b"[" * 300 + b"]" * 300 + b"}", b"{'prompt': 'a'}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("url", [COMPLETIONS, CHAT, "/tokenize", "/detokenize"])
def test_a_body_that_is_no_object_is_told(client: TestClient, url: str, data: bytes) -> None:
    answer = client.post(url, content=data, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "\n" not in answer.json()["error"]["message"]


def test_a_failure_of_the_program_shows_no_traceback(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise KeyError("secret")

    monkeypatch.setattr("serving.models.described", fail)
    with TestClient(client.app, client.base_url, raise_server_exceptions=False) as quiet:
        answer = quiet.get("/v1/models")
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "secret" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_without_the_packages_the_command_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith(("serving.", "uvicorn"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main.main(["serve", "runs/none"]) == WRONG_INPUT
    assert 'pip install -e ".[serve]"' in capsys.readouterr().err
