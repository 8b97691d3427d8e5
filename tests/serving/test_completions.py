"""/v1/completions: the texts are the engine's, in every form in which a client may ask."""

import math

import pytest
import torch
from oracles.http_answers import error_of, events
from starlette.testclient import TestClient

from decoding.engine import complete
from decoding.rows import RowState
from decoding.settings import SamplingConfig
from serving.runs import ServedRun

URL = "/v1/completions"
DRAWN = {"temperature": 0.8, "top_p": 0.9, "seed": 5}


def row_of(run: ServedRun, prompt: str, n: int = 20, **settings: object) -> RowState:
    """What `generate` writes."""
    tokens = run.tokenizer.encode(prompt) or [run.tokenizer.end_of_text]
    config = SamplingConfig(max_new_tokens=n, stop_tokens=run.tokens.eos_token_id, **settings)
    return complete(run.model, [tokens], config, run.tokenizer)[0]


@pytest.mark.parametrize("prompt", ["The cat", "Где корзинка?", "🦙", ""])
def test_a_text_is_the_one_that_generation_writes(
    client: TestClient, runs: dict[str, ServedRun], prompt: str
) -> None:
    row = row_of(runs["small"], prompt, **DRAWN)
    asked = {"prompt": prompt, "max_tokens": 20, **DRAWN}
    answer = client.post(URL, json=asked)
    assert answer.status_code == 200
    assert answer.headers["x-seed"] == "5"
    [choice] = answer.json()["choices"]
    assert choice["text"] == row.text
    streamed = events(client.post(URL, json={**asked, "stream": True}).text)
    assert "".join(part["choices"][0]["text"] for part in streamed) == row.text
    reasons = [part["choices"][0]["finish_reason"] for part in streamed]
    assert [reason for reason in reasons if reason] == [choice["finish_reason"]]
    assert len({(part["id"], part["created"], part["model"]) for part in streamed}) == 1


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ({"top_k": 3}, {"top_k": 3}),
        ({"min_p": 0.1}, {"min_p": 0.1}),
        ({"repetition_penalty": 0.1}, {"repetition_penalty": 0.1}),
        ({"presence_penalty": -9.5}, {"presence_penalty": -9.5}),
        ({"frequency_penalty": -9}, {"frequency_penalty": -9.0}),
        (
            {"min_tokens": 4, "logit_bias": {"0": 40}},
            {"min_new_tokens": 4, "logit_bias": ((0, 40),)},
        ),
        ({"logit_bias": {"70": 6.5}}, {"logit_bias": ((70, 6.5),)}),
        ({"temperature": 0}, {"temperature": 0}),
        ({}, {"temperature": 1.0}),
    ],
)
def test_every_setting_is_honoured(
    client: TestClient, runs: dict[str, ServedRun], sent: dict, meant: dict
) -> None:
    plain = row_of(runs["small"], "The cat", **{"temperature": 1.0, "seed": 7})
    row = row_of(runs["small"], "The cat", **{"temperature": 1.0, "seed": 7, **meant})
    asked = {"prompt": "The cat", "max_tokens": 20, "seed": 7, **sent}
    assert client.post(URL, json=asked).json()["choices"][0]["text"] == row.text
    assert (row.text == plain.text) == (not sent)


def test_n_texts_of_each_prompt_draw_with_seed_after_seed(
    client: TestClient, runs: dict[str, ServedRun]
) -> None:
    prompts = ["The cat", "Hello"]
    asked = {"prompt": prompts, "n": 3, "seed": 4, "max_tokens": 9}
    choices = client.post(URL, json=asked).json()["choices"]
    expected = [
        row_of(runs["small"], prompt, 9, temperature=1.0, seed=4 + j).text
        for prompt in prompts
        for j in range(3)
    ]
    assert [choice["text"] for choice in choices] == expected
    assert [choice["index"] for choice in choices] == [*range(6)]


def test_ids_are_prompts_too(client: TestClient, runs: dict[str, ServedRun]) -> None:
    tokens = runs["small"].tokenizer.encode("The cat sat")
    asked = {"max_tokens": 7, "seed": 1}

    def texts(prompt: object) -> list[str]:
        answer = client.post(URL, json={**asked, "prompt": prompt}).json()
        return [choice["text"] for choice in answer["choices"]]

    assert texts(tokens) == texts([tokens]) == texts("The cat sat")
    assert texts([tokens, tokens[:2]]) == texts(tokens) + texts(tokens[:2])


def test_a_stop_string_is_never_shown(client: TestClient, runs: dict[str, ServedRun]) -> None:
    """Neither in the text nor among the tokens, however the text is cut into pieces."""
    text = row_of(runs["small"], "The cat", 40, temperature=1.0, seed=9).text
    for start in range(4, 24, 5):
        stop = text[start : start + 3]
        asked = {"prompt": "The cat", "max_tokens": 40, "seed": 9, "stop": [stop], "logprobs": 0}
        whole = client.post(URL, json=asked).json()["choices"][0]
        assert whole["text"] == text[: text.index(stop)] and whole["finish_reason"] == "stop"
        parts = events(client.post(URL, json={**asked, "stream": True}).text)
        assert "".join(part["choices"][0]["text"] for part in parts) == whole["text"]
        streamed = [part["choices"][0]["logprobs"] for part in parts]
        for name, values in whole["logprobs"].items():
            assert [value for logprobs in streamed for value in logprobs[name]] == values
        assert all(offset < len(whole["text"]) for offset in whole["logprobs"]["text_offset"])


def test_log_probabilities_are_the_models(client: TestClient, runs: dict[str, ServedRun]) -> None:
    run = runs["small"]
    asked = {"prompt": "The cat 🦙", "max_tokens": 8, "seed": 2, "logprobs": 3, "echo": True}
    choice = client.post(URL, json=asked).json()["choices"][0]
    found = choice["logprobs"]
    row = row_of(run, "The cat 🦙", 8, temperature=1.0, seed=2)
    tokens = [*row.prompt, *row.tokens]
    with torch.inference_mode():
        log_p = run.model(torch.tensor([tokens[:-1]]))[0].log_softmax(dim=-1)
    expected = log_p[range(len(tokens) - 1), tokens[1:]].tolist()
    assert found["token_logprobs"][0] is None and found["top_logprobs"][0] is None
    assert found["token_logprobs"][1:] == pytest.approx(expected, abs=1e-5)
    for name, value, top, row_of_p in zip(
        found["tokens"][1:], found["token_logprobs"][1:], found["top_logprobs"][1:], log_p,
        strict=True,
    ):  # fmt: skip
        assert top[name] == value  # the same float: lm-eval compares them
        best = row_of_p.topk(3).values.tolist()
        assert sorted(top.values(), reverse=True)[:3] == pytest.approx(best, abs=1e-5)
        assert len(top) in (3, 4)


def test_offsets_count_the_text_of_tokens(client: TestClient, runs: dict[str, ServedRun]) -> None:
    decoder = runs["small"].tokenizer.decode_stream()
    asked = {"prompt": "Где 🐫 cat", "max_tokens": 0, "logprobs": 0, "echo": True}
    choice = client.post(URL, json=asked).json()["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("Где 🐫 cat", "length")
    offset = 0
    for token, start in zip(
        runs["small"].tokenizer.encode("Где 🐫 cat"), choice["logprobs"]["text_offset"], strict=True
    ):
        assert start == offset
        offset += len(decoder.step(token))
    assert offset == len(choice["text"])
    names = choice["logprobs"]["tokens"]
    assert "bytes:\\xd0" in names and " cat" in names
    assert len(set(names)) == len(names)  # none is the other half of another character


def test_lm_eval_finds_one_token_after_the_prompt_also_where_it_ends_the_text(
    client: TestClient, runs: dict[str, ServedRun]
) -> None:
    """It reads token_logprobs[n:-1]; and a prompt may fill the context."""
    end, context = 0, runs["small"].model.config.context_length
    prompts = [[5, 6, 7], list(range(100, 100 + context))]
    asked = {"prompt": prompts, "max_tokens": 1, "temperature": 0, "logprobs": 1, "echo": True}
    for bias in ({}, {"logit_bias": {str(end): 100}}):
        answer = client.post(URL, json={**asked, **bias}).json()
        for prompt, choice in zip(prompts, answer["choices"], strict=True):
            values = choice["logprobs"]["token_logprobs"]
            assert len(values) == len(prompt) + 1 and all(map(math.isfinite, values[1:]))
            assert choice["finish_reason"] == ("stop" if bias else "length")


@pytest.mark.parametrize("echo", [False, True])
def test_usage_counts_tokens(client: TestClient, echo: bool) -> None:
    asked = {"prompt": [[5, 6, 7], [8, 9]], "max_tokens": 4, "n": 2, "seed": 1, "echo": echo}
    asked["logit_bias"] = {"0": -100}  # no text ends early
    expected = {"prompt_tokens": 5, "completion_tokens": 16, "total_tokens": 21}
    assert client.post(URL, json=asked).json()["usage"] == expected
    for options, wanted in [({"include_usage": True}, [expected]), ({}, []), (None, [])]:
        body = client.post(URL, json={**asked, "stream": True, "stream_options": options}).text
        assert [part["usage"] for part in events(body) if part["usage"]] == wanted


def test_a_drawn_seed_is_told(client: TestClient) -> None:
    asked = {"prompt": "The", "max_tokens": 12}
    first = client.post(URL, json=asked)
    again = client.post(URL, json={**asked, "seed": int(first.headers["x-seed"])})
    other = client.post(URL, json=asked)
    assert first.json()["choices"] == again.json()["choices"]
    assert first.headers["x-seed"] != other.headers["x-seed"]


def test_unknown_names_are_served_and_told(client: TestClient) -> None:
    asked = {"prompt": "The", "max_tokens": 1, "user": "me", "top_a": 1, "x\r\ny": 2, "я": 3}
    answer = client.post(URL, json=asked)
    assert answer.status_code == 200
    assert answer.headers["x-ignored-fields"] == "top_a, ?, ?"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", 3), ("prompt", []), ("prompt", [["a"]]), ("prompt", [1e9]), ("prompt", [320]),
        ("prompt", ["a"] * 65), ("prompt", "cat " * 100),
        ("max_tokens", 0), ("max_tokens", "9"), ("max_tokens", 1.5), ("n", 0), ("n", 17),
        ("n", True), ("temperature", -1), ("temperature", "hot"), ("top_p", 0), ("top_p", 1.1),
        ("top_k", 0), ("min_p", 2), ("min_tokens", 17), ("seed", 2**64), ("logprobs", 21),
        ("logprobs", -1), ("logprobs", True), ("stop", ["a"] * 17), ("stop", ""),
        ("stop", "a" * 101), ("stop", [1]), ("logit_bias", {"x": 1}), ("logit_bias", {"1": 101}),
        ("logit_bias", {"999": 1}), ("logit_bias", [1]), ("presence_penalty", 1e9),
        ("repetition_penalty", 0), ("stream", "yes"), ("stream_options", True), ("echo", 1),
        ("best_of", 2), ("suffix", "end"), ("prompt_lookup", True), ("tools", [{}]),
        ("functions", [{}]), ("response_format", {"type": "json_object"}), ("audio", {}),
        ("model", 3),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_its_name(client: TestClient, field: str, value: object) -> None:
    error = error_of(client, URL, {"prompt": "The", field: value})
    assert field in error["message"]
    assert error["param"] == field
    assert "--" not in error["message"]


def test_a_prompt_that_is_too_long_names_what_to_set(client: TestClient) -> None:
    error = error_of(client, URL, {"prompt": "cat " * 100})
    assert "context_length is 64" in error["message"] and "max_length=64" in error["message"]
    assert error["code"] == "context_length_exceeded"


def test_an_unknown_model_is_404(client: TestClient) -> None:
    answer = client.post(URL, json={"prompt": "The", "model": "gpt-5"})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert "small" in answer.json()["error"]["message"]
