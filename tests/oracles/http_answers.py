"""What the tests of the server read out of its responses."""

import json

from starlette.testclient import TestClient


def events(body: str) -> list[dict]:
    """The events of a stream but for the last line, which says that it is done."""
    lines = [line for line in body.split("\n\n") if line and not line.startswith(":")]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def error_of(client: TestClient, url: str, body: object) -> dict:
    """The error that a body is answered with, whose form is checked."""
    answer = client.post(url, json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return error
