"""/v1/chat/completions: answers to a dialogue, in the run's own chat template.

A run that was not finetuned for chat has none: the messages are then joined as plain text, which
the header x-chat-format tells. Where a dialogue is longer than the context, its oldest turns leave
it, whole; the system message stays.
Previous: completions.py.  Next: metrics.py.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response

from finetuning.chat_format import Message, encode_prompt, encode_turn, require_turns
from serving.answers import Json, TextAnswer, respond
from serving.choices import Choices, Delta, require_few, sampling_of, value_or
from serving.errors import ApiError, as_bad_request
from serving.log_probabilities import for_chat
from serving.models import find_run
from serving.runs import ServedRun
from serving.schemas import ChatMessage, ChatRequest, read_body

ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
router = APIRouter()


@dataclass(frozen=True)
class Prompt:
    """The tokens of a dialogue, and how many of its messages they leave out."""

    tokens: list[int]
    n_left_out: int


@dataclass(kw_only=True)
class ChatAnswer(TextAnswer):
    """The answers to one dialogue."""

    n: int
    with_logprobs: bool

    def deltas(self) -> AsyncIterator[Delta]:
        """Yields what is added to the answers."""
        return self.choices.deltas()

    def opening(self) -> list[Json]:
        """Returns the choices that say whose messages follow."""
        begin: Json = {"role": "assistant", "content": ""}
        return [self.event(index, begin, None, None) for index in range(self.n)]

    def choice(self, whole: Delta) -> Json:
        """Returns a whole answer."""
        message = {"role": "assistant", "content": whole.text, "refusal": None}
        return {
            "index": whole.index,
            "message": message,
            "logprobs": self.logprobs(whole),
            "finish_reason": whole.finish_reason,
        }

    def choices_of_events(self, delta: Delta) -> list[Json]:
        """Returns the text of a delta, and after it, where it is the last, why it has ended."""
        events: list[Json] = []
        if delta.text or delta.scored:
            content: Json = {"content": delta.text}
            events.append(self.event(delta.index, content, self.logprobs(delta), None))
        if delta.finish_reason:
            events.append(self.event(delta.index, {}, None, delta.finish_reason))
        return events

    def logprobs(self, delta: Delta) -> Json | None:
        """Returns the log-probabilities of a delta's tokens, where they are asked for."""
        return for_chat(self.run.tokenizer, delta.scored) if self.with_logprobs else None

    @staticmethod
    def event(index: int, delta: Json, logprobs: Json | None, reason: str | None) -> Json:
        """Returns a choice of an event."""
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}


@router.post("/v1/chat/completions")
async def chat_completions(request: Request) -> Response:
    """Answers a dialogue."""
    body = read_body(ChatRequest, await request.body())
    run = find_run(request, body.model)
    with as_bad_request("messages"):
        prompt = await asyncio.to_thread(prompt_of, body, run)
    answer = prepare(request, body, run, prompt)
    headers = {"x-chat-format": run.chat.format if run.chat else "none"}
    if prompt.n_left_out:
        headers["x-messages-left-out"] = str(prompt.n_left_out)
    return await respond(request, body, answer, headers)


def prepare(request: Request, body: ChatRequest, run: ServedRun, prompt: Prompt) -> ChatAnswer:
    """Gives a dialogue to the engine. Raises ApiError where it cannot be served."""
    n = value_or(body.n, 1)
    require_few(1, n)
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs; add logprobs: true", param="top_logprobs")
    room = run.model.config.context_length - len(prompt.tokens)
    asked = max_tokens_of(body)
    max_tokens = room if asked is None else min(asked, room)
    stops = (run.tokenizer.end_of_text, *run.tokens.eos_token_id)
    choices = Choices(run, sampling_of(body, run, max_tokens, stops))
    choices.ask([prompt.tokens], n, value_or(body.top_logprobs, 0))
    answer = ChatAnswer(
        kind="chat.completion",
        event_kind="chat.completion.chunk",
        run=run,
        config=choices.config,
        choices=choices,
        metrics=request.app.state.metrics,
        n_read=len(prompt.tokens),
        n=n,
        with_logprobs=bool(body.logprobs),
    )
    answer.id = f"chatcmpl-{answer.id}"
    return answer


def max_tokens_of(body: ChatRequest) -> int | None:
    """Returns how long an answer may be; None: as long as the context has room.

    Raises ApiError for less than 1, and where the two names of the field disagree.
    """
    named = {"max_completion_tokens": body.max_completion_tokens, "max_tokens": body.max_tokens}
    asked = {name: value for name, value in named.items() if value is not None}
    if len(set(asked.values())) > 1:
        raise ApiError(
            400, "max_completion_tokens and max_tokens differ; give one", param="max_tokens"
        )
    for name, value in asked.items():
        if value < 1:
            raise ApiError(400, f"{name} is {value}; give 1 or more", param=name)
    return next(iter(asked.values()), None)


def prompt_of(body: ChatRequest, run: ServedRun) -> Prompt:
    """Returns the tokens of a dialogue, without the oldest turns where the context is too short.

    Raises ApiError or ValueError for messages that make no dialogue, or do not fit.
    """
    texts = [(role_of(message), text_of(message)) for message in body.messages]
    if not texts:
        raise ApiError(400, "messages is empty; give at least one of the user's", param="messages")
    limit = run.model.config.context_length - 1  # an answer has at least one token
    reserved = min(max_tokens_of(body) or 1, limit // 2)
    if run.chat is None:
        return plain_prompt([text for _, text in texts], run, limit + 1 - reserved, limit)
    if run.chat.system and texts[0][0] != "system":
        texts.insert(0, ("system", run.chat.system))
    messages = [Message(role, text) for role, text in without_empty_answers(texts)]
    n_empty = len(texts) - len(messages)
    require_turns(messages)
    if not messages or messages[-1].role != "user":
        raise ApiError(
            400,
            f"the last message is the {texts[-1][0]}'s; end with the user's",
            param="messages",
        )
    n_system = int(messages[0].role == "system")
    system, turns = messages[:n_system], messages[n_system:]
    sizes = [turn_size(message, run) for message in messages]
    asks = len(run.tokenizer.encode("\n<|assistant|>\n"))
    fixed = sum(sizes[:n_system]) + asks
    n_left_out = n_to_leave_out(sizes[n_system:], limit + 1 - reserved - fixed, step=2)
    tokens = encode_prompt([*system, *turns[n_left_out:]], run.tokenizer)
    require_room(len(tokens), limit)
    return Prompt(tokens, n_left_out + n_empty)


def plain_prompt(texts: list[str], run: ServedRun, room: int, limit: int) -> Prompt:
    """Returns the tokens of messages joined as lines. Raises as prompt_of does."""
    lines = [f"{text}\n" for text in texts]
    encoded = run.tokenizer.encode_batch(lines)
    n_left_out = n_to_leave_out([len(line) for line in encoded], room, step=1)
    tokens = run.tokenizer.encode("".join(lines[n_left_out:]))
    require_room(len(tokens), limit)
    return Prompt(tokens, n_left_out)


def n_to_leave_out(sizes: Sequence[int], room: int, step: int) -> int:
    """Returns how many of the first messages leave, some at a time; the last one stays."""
    n, total = 0, sum(sizes)
    while total > room and n + step < len(sizes):
        total -= sum(sizes[n : n + step])
        n += step
    return n


def turn_size(message: Message, run: ServedRun) -> int:
    """Returns how many tokens a message takes within a dialogue."""
    mark, content = encode_turn(message, run.tokenizer, is_first=False)
    return len(mark) + len(content)


def require_room(n_tokens: int, limit: int) -> None:
    """Raises ApiError where not even the last message leaves room for an answer."""
    if n_tokens > limit:
        raise ApiError(
            400,
            f"the last message makes {n_tokens} tokens and context_length is {limit + 1}, of which "
            "an answer needs one; shorten the message",
            param="messages",
            code="context_length_exceeded",
        )


def without_empty_answers(texts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Returns roles and texts without the answers that say nothing, and without their questions.

    A client sends back what it was told, and a model may have told nothing.
    """
    kept: list[tuple[str, str]] = []
    for role, text in texts:
        if role == "assistant" and not text.strip() and kept and kept[-1][0] == "user":
            kept.pop()
        else:
            kept.append((role, text))
    return kept


def role_of(message: ChatMessage) -> str:
    """Returns the role of a message in the template. Raises ApiError where it has none."""
    if message.role not in ROLES:
        raise ApiError(
            400,
            f"role {message.role[:40]!r} is not offered; take one of {', '.join(ROLES)}",
            param="messages",
        )
    return ROLES[message.role]


def text_of(message: ChatMessage) -> str:
    """Returns the text of a message. Raises ApiError for a part of it that is no text."""
    if message.content is None or message.tool_calls or message.function_call:
        raise ApiError(
            400,
            f"a message of the {message.role} has no text; tools are not offered here",
            param="messages",
        )
    if isinstance(message.content, str):
        return message.content
    texts: list[str] = []
    for part in message.content:
        if part.type != "text" or part.text is None:
            raise ApiError(
                400,
                f"a part of a message is {part.type[:40]!r}; only text is read",
                param="messages",
            )
        texts.append(part.text)
    return "".join(texts)
