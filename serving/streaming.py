"""Server-sent events: `data: {...}` for each part of an answer, `data: [DONE]` at its end.

Where nothing is to be told for a while, a comment line keeps proxies from closing the connection.
Previous: choices.py.  Next: answers.py.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from serving.errors import ApiError

SECONDS_OF_SILENCE = 15
DONE = "data: [DONE]\n\n"


class EventStream(StreamingResponse):
    """A response that sends each part of an answer as an event."""

    def __init__(
        self,
        parts: AsyncIterator[dict[str, object]],
        headers: Mapping[str, str],
        on_end: Callable[[], None],
    ) -> None:
        """Makes the response.

        Args:
            parts: what is sent.
            headers: of the response.
            on_end: called when the stream has ended, also because the client has left.
        """
        headers = {**headers, "x-accel-buffering": "no"}  # a proxy is to pass events on at once
        super().__init__(events(parts), headers=headers, media_type="text/event-stream")
        self.on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events, as ASGI has it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.on_end()


async def events(parts: AsyncIterator[dict[str, object]]) -> AsyncIterator[str]:
    """Yields the lines of the events; an error is an event too, and the last one."""
    iterator = aiter(parts)
    task = asyncio.ensure_future(anext(iterator, None))
    try:
        while True:
            done, _ = await asyncio.wait([task], timeout=SECONDS_OF_SILENCE)
            if not done:
                yield ": waiting\n\n"
                continue
            part = task.result()
            if part is None:
                yield DONE
                return
            yield event(part)
            task = asyncio.ensure_future(anext(iterator, None))
    except ApiError as error:
        yield event(error.body())
    finally:
        task.cancel()  # which ends the iterator, too


def event(part: dict[str, object]) -> str:
    """Returns one event."""
    return f"data: {json.dumps(part, ensure_ascii=False, allow_nan=False)}\n\n"
