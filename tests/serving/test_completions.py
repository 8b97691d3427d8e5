"""/v1/completions: the texts are the engine's, in every form in which a client may ask."""

import json

import pytest
from starlette.testclient import TestClient

from decoding.engine import complete
from decoding.settings import SamplingConfig
from serving.runs import ServedRun

URL = "/v1/completions"


def events(body: str) -> list[dict]:
    """The events of a stream but for the last line, which says that it is done."""
    lines = [line for line in body.split("\n\n") if line and not line.startswith(":")]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


@pytest.mark.parametrize("prompt", ["The cat", "Где корзинка?", "🦙", ""])
def test_a_text_is_the_one_that_generation_writes(
    client: TestClient, runs: dict[str, ServedRun], prompt: str
) -> None:
    run = runs["small"]
    tokens = run.tokenizer.encode(prompt) or [run.tokenizer.end_of_text]
    settings = {"temperature": 0.8, "top_p": 0.9, "seed": 5}
    config = SamplingConfig(max_new_tokens=20, stop_tokens=run.tokens.eos_token_id, **settings)
    [row] = complete(run.model, [tokens], config, run.tokenizer)
    asked = {"prompt": prompt, "max_tokens": 20, **settings}
    answer = client.post(URL, json=asked)
    assert answer.status_code == 200
    assert answer.headers["x-seed"] == "5"
    [choice] = answer.json()["choices"]
    assert choice["text"] == row.text
    streamed = events(client.post(URL, json={**asked, "stream": True}).text)
    assert "".join(part["choices"][0]["text"] for part in streamed) == row.text
    reasons = [part["choices"][0]["finish_reason"] for part in streamed]
    assert [reason for reason in reasons if reason] == [choice["finish_reason"]]
