"""/v1/chat/completions: the answers are those of `chat`, in OpenAI's form."""

import pytest
from oracles.http_answers import error_of, events
from oracles.served_run import TOKENIZER
from starlette.testclient import TestClient

from decoding.settings import SamplingConfig
from finetuning.chat import Chat
from finetuning.chat_format import Message, encode_prompt
from serving.runs import ServedRun

URL = "/v1/chat/completions"
ASKED = {"model": "assistant", "max_tokens": 12, "seed": 3, "temperature": 0.7, "top_p": 0.9}
QUESTION = {"role": "user", "content": "Where is the cat?"}
SHORT = {"role": "user", "content": "cat"}
TEXT = {"type": "text", "text": "Where"}


def test_an_answer_is_the_one_of_chat(client: TestClient, runs: dict[str, ServedRun]) -> None:
    run = runs["assistant"]
    config = SamplingConfig(max_new_tokens=12, temperature=0.7, top_p=0.9, seed=3)
    chat = Chat(run.model, run.tokenizer, config)
    said = chat.ask(QUESTION["content"])
    for _ in chat.write(said):
        pass
    answer = client.post(URL, json={**ASKED, "messages": [QUESTION]})
    assert answer.status_code == 200 and answer.headers["x-chat-format"] == "turns"
    [choice] = answer.json()["choices"]
    assert choice["message"]["content"] == said.row.text
    assert choice["finish_reason"] == said.finish_reason
    assert choice["message"]["role"] == "assistant"


def test_a_stream_is_the_answer_in_parts(client: TestClient) -> None:
    asked = {**ASKED, "messages": [QUESTION], "n": 2, "logprobs": True, "top_logprobs": 2}
    whole = client.post(URL, json=asked).json()["choices"]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    parts = events(client.post(URL, json={**asked, **options}).text)
    assert parts[-1]["choices"] == [] and parts[-1]["usage"]["completion_tokens"] > 0
    for index in range(2):
        own = [part["choices"][0] for part in parts[:-1] if part["choices"][0]["index"] == index]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert own[-1]["delta"] == {} and own[-1]["finish_reason"] == whole[index]["finish_reason"]
        assert all(each["finish_reason"] is None for each in own[:-1])
        text = "".join(each["delta"].get("content", "") for each in own)
        assert text == whole[index]["message"]["content"]
        scored = [token for each in own[1:-1] for token in each["logprobs"]["content"]]
        assert scored == whole[index]["logprobs"]["content"]
        data = b"".join(bytes(token["bytes"]) for token in scored)
        assert data.decode(errors="replace").startswith(text)  # half a character is not shown
        assert all(len(token["top_logprobs"]) == 2 for token in scored)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "Be brief."}, QUESTION],
        [{"role": "developer", "content": "Be brief."}, QUESTION],
        [SHORT, {"role": "assistant", "content": "mat"}, SHORT],
        [{"role": "user", "content": [TEXT, TEXT]}],
        [QUESTION, {"role": "assistant", "content": " "}, QUESTION],
    ],
)
def test_dialogues_are_put_in_the_template(client: TestClient, messages: list[dict]) -> None:
    roles = {"developer": "system"}
    texts = [
        m["content"] if isinstance(m["content"], str) else "".join(p["text"] for p in m["content"])
        for m in messages
    ]
    if " " in texts:  # an answer that says nothing leaves with its question
        messages, texts = messages[2:], texts[2:]
    dialogue = [
        Message(roles.get(m["role"], m["role"]), text)
        for m, text in zip(messages, texts, strict=True)
    ]
    answer = client.post(URL, json={**ASKED, "messages": messages})
    n_tokens = len(encode_prompt(dialogue, TOKENIZER))
    assert answer.json()["usage"]["prompt_tokens"] == n_tokens


def test_the_oldest_turns_leave_a_full_context(client: TestClient) -> None:
    """Open WebUI sends dialogues longer than a small context; they must not fail."""
    turns = [QUESTION, {"role": "assistant", "content": "On the mat."}] * 9
    asked = {**ASKED, "messages": [{"role": "system", "content": "Hello"}, *turns, QUESTION]}
    answer = client.post(URL, json=asked)
    assert answer.status_code == 200
    n_left_out = int(answer.headers["x-messages-left-out"])
    kept = [Message("system", "Hello"), *(Message(m["role"], m["content"]) for m in turns)]
    kept = [kept[0], *kept[1 + n_left_out :], Message("user", QUESTION["content"])]
    assert 0 < n_left_out < len(turns) + 1 and n_left_out % 2 == 0
    assert answer.json()["usage"]["prompt_tokens"] == len(encode_prompt(kept, TOKENIZER))
    error = error_of(client, URL, {**ASKED, "messages": [{**QUESTION, "content": "cat " * 99}]})
    assert error["code"] == "context_length_exceeded" and "context_length" in error["message"]


def test_a_run_without_the_template_says_so(client: TestClient) -> None:
    plain = {"max_tokens": 9, "seed": 1, "model": "small"}
    answer = client.post(URL, json={**plain, "messages": [QUESTION]})
    assert answer.headers["x-chat-format"] == "none"
    text = answer.json()["choices"][0]["message"]["content"]
    same = client.post("/v1/completions", json={**plain, "prompt": "Where is the cat?\n"})
    assert same.json()["choices"][0]["text"] == text


@pytest.mark.parametrize(
    ("messages", "word"),
    [
        ([], "empty"),
        ("Hello", "list of messages"),
        ([{"role": "tool", "content": "4"}], "tool"),
        ([{"role": "user"}], "no text"),
        ([{"role": "user", "content": " "}], "empty"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "image_url"),
        ([QUESTION, QUESTION], "take turns"),
        ([QUESTION, {"role": "assistant", "content": "Yes."}], "end with the user's"),
        ([QUESTION, {"role": "assistant", "content": ""}], "end with the user's"),
        ([{"role": "assistant", "content": None, "tool_calls": [{}]}], "tools"),
    ],
)
def test_messages_that_are_no_dialogue_are_refused(
    client: TestClient, messages: object, word: str
) -> None:
    error = error_of(client, URL, {**ASKED, "messages": messages})
    assert word in error["message"] and error["param"] == "messages"


@pytest.mark.parametrize(
    "fields",
    [
        {"max_completion_tokens": 3, "max_tokens": 4},
        {"max_completion_tokens": 0},
        {"top_logprobs": 2},
        {"top_logprobs": 21, "logprobs": True},
        {"logprobs": 2},
        {"tools": [{}]},
        {"tool_choice": "required"},
        {"response_format": {"type": "json_schema"}},
        {"modalities": ["audio"]},
    ],
)
def test_fields_of_chat_are_refused_by_name(client: TestClient, fields: dict) -> None:
    body = {"model": "assistant", "messages": [QUESTION], **fields}
    error = error_of(client, URL, body)
    assert any(name in error["message"] for name in fields)


def test_harmless_values_of_refused_fields_are_served(client: TestClient) -> None:
    harmless = {
        "tools": [], "tool_choice": "auto", "response_format": {"type": "text"}, "audio": None,
        "max_completion_tokens": 2, "metadata": {"a": "b"}, "store": False,
    }  # fmt: skip
    asked = {"model": "assistant", "messages": [QUESTION], **harmless}
    answer = client.post(URL, json=asked)
    assert answer.status_code == 200 and "x-ignored-fields" not in answer.headers
