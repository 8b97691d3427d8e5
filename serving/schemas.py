"""What requests hold: the fields that are honoured, refused, or without effect.

A name that stands nowhere here is served all the same, and told in the header x-ignored-fields.
Previous: security.py.  Next: log_probabilities.py.
"""

import re
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from run_directory.json_file import parse_json, quoted
from serving.errors import ApiError, as_bad_request

MAX_PROMPTS, MAX_N, MAX_TEXTS = 64, 16, 64
MAX_STOPS, MAX_STOP_LENGTH = 16, 100
MAX_TOP = 20  # alternatives for each token
WITHOUT_EFFECT = {
    "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
}  # fmt: skip
REFUSED = {  # fields that would change the answer, with the values that ask for nothing
    "tools": ([],),
    "functions": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "audio": (),
    "modalities": (["text"],),
    "suffix": ("",),
    "prompt_lookup": (False,),  # rows that share their steps do not guess
}
NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)
Prompt = str | list[str] | list[int] | list[list[int]] | None
Body = TypeVar("Body", bound=BaseModel)


class StreamOptions(BaseModel):
    """How a stream is sent."""

    model_config = ConfigDict(extra="ignore", strict=True)
    include_usage: bool | None = Field(None, description="true or false")


class TextRequest(BaseModel):
    """The fields of both endpoints that write texts. null stands for the default."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
    model: str | None = Field(None, description="the name of a served run")
    max_tokens: int | None = Field(None, description="a whole number")
    temperature: float | None = Field(None, description="a number from 0 on")
    top_p: float | None = Field(None, description="a number above 0 and at most 1")
    n: int | None = Field(None, ge=1, le=MAX_N, description=f"a whole number from 1 to {MAX_N}")
    seed: int | None = Field(None, description="a whole number")
    stop: str | list[str] | None = Field(None, description="a text, or a list of texts")
    stream: bool | None = Field(None, description="true or false")
    stream_options: StreamOptions | None = Field(
        None, description='an object such as {"include_usage": true}'
    )
    logit_bias: dict[str, float] | None = Field(
        None, description="an object from token ids to numbers from -100 to 100"
    )
    presence_penalty: float | None = Field(None, description="a number")
    frequency_penalty: float | None = Field(None, description="a number")
    top_k: int | None = Field(None, description="a whole number")
    min_p: float | None = Field(None, description="a number from 0 to 1")
    repetition_penalty: float | None = Field(None, description="a number above 0")
    min_tokens: int | None = Field(None, description="a whole number from 0 on")


class CompletionRequest(TextRequest):
    """The body of /v1/completions."""

    prompt: Prompt = Field(
        None, description="a text, a list of texts, a list of token ids, or a list of such lists"
    )
    logprobs: int | None = Field(
        None, ge=0, le=MAX_TOP, description=f"a whole number from 0 to {MAX_TOP}"
    )
    echo: bool | None = Field(None, description="true or false")
    return_tokens_as_token_ids: bool | None = Field(None, description="true or false")  # vLLM's
    best_of: int | None = Field(None, description="the same number as n")


class ContentPart(BaseModel):
    """A part of a message."""

    model_config = ConfigDict(extra="allow", strict=True)
    type: str
    text: str | None = None


class ChatMessage(BaseModel):
    """A message of a dialogue."""

    model_config = ConfigDict(extra="allow", strict=True)
    role: str
    content: str | list[ContentPart] | None = None
    tool_calls: list[object] | None = None
    function_call: object = None


class ChatRequest(TextRequest):
    """The body of /v1/chat/completions."""

    messages: list[ChatMessage] = Field(
        description='a list of messages such as {"role": "user", "content": "Hello"}'
    )
    max_completion_tokens: int | None = Field(None, description="a whole number")
    logprobs: bool | None = Field(None, description="true or false")
    top_logprobs: int | None = Field(
        None, ge=0, le=MAX_TOP, description=f"a whole number from 0 to {MAX_TOP}"
    )


def read_body(kind: type[Body], data: bytes) -> Body:
    """Returns a request. Raises ApiError, with one sentence, for a body that is none."""
    with as_bad_request():
        value = parse_json(data, "the body")
    if not isinstance(value, dict):
        raise ApiError(400, f"the body is {quoted(value)}, where an object is expected")
    try:
        body = kind.model_validate_json(data.removeprefix(b"\xef\xbb\xbf"))
    except ValidationError as error:
        place = error.errors(include_url=False, include_context=False, include_input=False)[0]
        name = str(place["loc"][0])
        raise wrong_field(kind, name, value.get(name)) from None
    for name, harmless in REFUSED.items():
        if value.get(name) is not None and value[name] not in harmless:
            raise ApiError(400, f"{name} is not offered here; leave it out", param=name)
    return body


def wrong_field(kind: type[BaseModel], name: str, value: object) -> ApiError:
    """Returns the error about a field whose value is none that it can have."""
    if value is None:
        return ApiError(400, f"{name} is missing; give it", param=name)
    expected = kind.model_fields[name].description
    return ApiError(400, f"{name} is {quoted(value)}, where {expected} is expected", param=name)


def unknown_names(body: BaseModel) -> list[str]:
    """Returns the names in a request that nothing here reads, as a header can hold them."""
    names = sorted(set(body.model_extra or {}) - WITHOUT_EFFECT - set(REFUSED))
    shown = [name if NAME.fullmatch(name) else "?" for name in names[:20]]
    return shown + ["..."] * (len(names) > 20)


def stop_strings(body: TextRequest) -> tuple[str, ...]:
    """Returns the texts that end an answer. Raises ApiError where there are too many."""
    stop = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if len(stop) > MAX_STOPS or any(not 1 <= len(text) <= MAX_STOP_LENGTH for text in stop):
        raise ApiError(
            400,
            f"stop takes at most {MAX_STOPS} texts of 1 to {MAX_STOP_LENGTH} characters",
            param="stop",
        )
    return tuple(stop)


def biases(body: TextRequest) -> tuple[tuple[int, float], ...]:
    """Returns what the logits of tokens gain. Raises ApiError for what is no id or no bias."""
    for id, bias in (body.logit_bias or {}).items():
        if not re.fullmatch(r"\d{1,9}", id, re.ASCII) or not -100 <= bias <= 100:
            raise ApiError(
                400,
                f"logit_bias has {quoted(id)}: {bias}, where a token id and a number from -100 to "
                "100 are expected",
                param="logit_bias",
            )
    return tuple((int(id), bias) for id, bias in (body.logit_bias or {}).items())
