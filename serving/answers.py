"""What /v1/completions and /v1/chat/completions have in common: one request, from body to response.

Previous: streaming.py.  Next: models.py.
"""

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from fastapi import Request
from starlette.responses import JSONResponse, Response

from commands.streams import say
from decoding.settings import SamplingConfig
from serving.choices import Choices, Delta, joined, unless_disconnected
from serving.metrics import Metrics
from serving.runs import ServedRun
from serving.schemas import TextRequest, unknown_names
from serving.streaming import EventStream

CLIENT_LEFT = 499  # nginx's status for it, which only the metrics show
Json = dict[str, object]


@dataclass(kw_only=True)
class TextAnswer(ABC):
    """A request for texts, understood and given to the engine, and what is told of them."""

    kind: str  # "object" in a response
    event_kind: str  # and in an event of a stream
    run: ServedRun
    config: SamplingConfig
    choices: Choices
    n_read: int  # tokens of prompts
    metrics: Metrics
    started: float = field(default_factory=time.monotonic)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    @abstractmethod
    def deltas(self) -> AsyncIterator[Delta]:
        """Yields what is added to the choices."""

    @abstractmethod
    def choice(self, whole: Delta) -> Json:
        """Returns a choice of a response."""

    @abstractmethod
    def choices_of_events(self, delta: Delta) -> list[Json]:
        """Returns the choices of the events by which a stream tells a delta."""

    def opening(self) -> list[Json]:
        """Returns the choices of the events that a stream begins with."""
        return []

    def response(self, kind: str, choices: list[Json], usage: Json | None) -> Json:
        """Returns a response, or an event of a stream."""
        head = {"id": self.id, "object": kind, "created": self.created, "model": self.run.name}
        return {**head, "choices": choices, "usage": usage}

    def usage(self) -> Json:
        """Returns the object "usage": how many tokens were read and written."""
        n_written = self.choices.n_tokens
        return {
            "prompt_tokens": self.n_read,
            "completion_tokens": n_written,
            "total_tokens": self.n_read + n_written,
        }

    async def timed(self) -> AsyncIterator[Delta]:
        """Yields the deltas, and counts them and their time in the metrics."""
        name, metrics = self.run.name, self.metrics
        metrics.prompt_tokens[name] += self.n_read
        first = None
        try:
            async for delta in self.deltas():
                if first is None:
                    first = time.monotonic() - self.started
                    metrics.first_token[name].observe(first)
                yield delta
        finally:
            metrics.answer[name].observe(time.monotonic() - self.started)
            metrics.generated_tokens[name] += self.choices.n_tokens

    async def whole(self) -> Json:
        """Returns the response that is no stream: the deltas, joined."""
        choices = [self.choice(whole) for whole in await joined(self.timed())]
        return self.response(self.kind, choices, self.usage())

    async def events(self, *, with_usage: bool) -> AsyncIterator[Json]:
        """Yields the events of a stream."""
        for choice in self.opening():
            yield self.response(self.event_kind, [choice], None)
        async for delta in self.timed():
            for choice in self.choices_of_events(delta):
                yield self.response(self.event_kind, [choice], None)
        if with_usage:
            yield self.response(self.event_kind, [], self.usage())


async def respond(
    request: Request, body: TextRequest, answer: TextAnswer, headers: dict[str, str]
) -> Response:
    """Returns the response to a request, as a stream where it asks for one."""
    headers = {**headers, "x-seed": str(answer.config.seed)}
    if names := ", ".join(unknown_names(body)):
        headers["x-ignored-fields"] = names
        say(f"{request.url.path}: fields that are not known here: {names}")
    if body.stream:
        with_usage = bool(body.stream_options and body.stream_options.include_usage)
        events = answer.events(with_usage=with_usage)
        return EventStream(events, headers, answer.choices.cancel)
    try:
        whole = await unless_disconnected(request.receive, answer.whole())
    finally:
        answer.choices.cancel()
    if whole is None:
        return Response(status_code=CLIENT_LEFT)
    return JSONResponse(whole, headers=headers)
