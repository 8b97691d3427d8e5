"""The texts of one request while the engine writes them, as pieces in the order they come.

Choice number i * n + j continues prompt i with the seed + j, so that it is the same text whichever
other prompts stand beside it.
Previous: log_probabilities.py.  Next: streaming.py.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, TypeVar

from starlette.types import Receive

from decoding.settings import SamplingConfig
from serving.errors import ApiError, as_bad_request
from serving.log_probabilities import Scored, ShownTokens
from serving.runs import ServedRun
from serving.schemas import MAX_TEXTS, TextRequest, biases, stop_strings
from serving.scoring import Scores
from serving.tickets import Piece, QueueFull, ShuttingDown, Ticket

SECONDS = 600  # that a request may take
RETRY_AFTER = 1  # seconds, where too many wait
T = TypeVar("T")


class Numbered(NamedTuple):
    """A piece of one of the choices."""

    number: int
    piece: Piece


@dataclass(frozen=True)
class Delta:
    """What is added to one choice: text, and the tokens that it shows."""

    index: int
    text: str
    scored: list[Scored]
    finish_reason: str | None


class Choices:
    """What the engine writes for one request."""

    def __init__(self, run: ServedRun, config: SamplingConfig) -> None:
        self.run, self.config = run, config
        self.loop = asyncio.get_running_loop()
        self.queue: asyncio.Queue[Numbered | ApiError] = asyncio.Queue()
        self.timer = self.loop.call_later(SECONDS, self.queue.put_nowait, too_slow())
        self.tickets: list[Ticket] = []
        self.scorings: list[Future[Scores]] = []
        self.n_unfinished = 0
        self.n_tokens = 0  # that were generated

    def ask(self, prompts: list[list[int]], n: int, n_top: int) -> None:
        """Asks the engine for n texts that continue each prompt.

        Raises ApiError where one cannot be served, or too many wait; none is asked for then.
        """
        with self.all_or_none():
            for i, prompt in enumerate(prompts):
                for j in range(n):
                    put = partial(self.put, i * n + j)
                    config = replace(self.config, seed=self.config.seed + j)
                    self.tickets.append(self.run.engine.submit(prompt, config, put, n_top))
        self.n_unfinished = len(self.tickets)

    def score(self, prompts: list[list[int]], n_top: int) -> None:
        """Asks the engine how probable each prompt is. Raises ApiError as `ask` does."""
        with self.all_or_none():
            for prompt in prompts:
                self.scorings.append(self.run.engine.score(prompt, n_top))

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Cancels everything where the engine does not take something, and raises ApiError."""
        try:
            with as_bad_request():
                yield
        except QueueFull as error:
            self.cancel()
            retry = {"retry-after": str(RETRY_AFTER)}
            raise ApiError(429, str(error), headers=retry) from None
        except ShuttingDown as error:
            self.cancel()
            raise ApiError(503, str(error)) from None
        except ApiError:
            self.cancel()
            raise

    async def scores(self) -> list[Scores]:
        """Returns how probable each prompt is. Raises ApiError as `pieces` does."""
        futures = [asyncio.wrap_future(future) for future in self.scorings]
        try:
            return await asyncio.wait_for(asyncio.gather(*futures), SECONDS)
        except TimeoutError:
            raise too_slow() from None
        except ShuttingDown as error:
            raise ApiError(503, str(error)) from None
        except ValueError as error:  # the logits are not finite
            raise ApiError(400, str(error)) from None

    def put(self, index: int, piece: Piece) -> None:
        """Takes a piece from the engine's thread."""
        with suppress(RuntimeError):  # the loop has ended before the engine
            self.loop.call_soon_threadsafe(self.queue.put_nowait, Numbered(index, piece))

    def cancel(self) -> None:
        """Ends what is not finished."""
        self.timer.cancel()
        for future in self.scorings:
            future.cancel()
        for ticket in self.tickets:
            ticket.cancel()

    async def pieces(self) -> AsyncIterator[Numbered]:
        """Yields the pieces of all texts.

        Raises ApiError where the server ends, or the request takes too long.
        """
        while self.n_unfinished:
            item = await self.queue.get()
            if isinstance(item, ApiError):
                raise item
            reason = item.piece.finish_reason
            if reason == "cancelled":
                raise ApiError(503, "the server is shutting down; this text is not finished")
            if reason == "error":
                raise ApiError(400, str(item.piece.error))
            self.n_tokens += 1
            self.n_unfinished -= reason is not None
            yield item

    async def deltas(self, offset: Callable[[int], int] = lambda index: 0) -> AsyncIterator[Delta]:
        """Yields what the pieces add to the choices; offset(i) characters stand before number i.

        Raises ApiError as `pieces` does.
        """
        ends = self.config.stop_tokens
        shown: dict[int, ShownTokens] = {}
        async for index, piece in self.pieces():
            if index not in shown:
                shown[index] = ShownTokens(self.run.tokenizer, ends, offset(index))
            scored = shown[index].add(piece)
            if piece.text or scored or piece.finish_reason:
                yield Delta(index, piece.text, scored, piece.finish_reason)


def too_slow() -> ApiError:
    """Returns the error about a request that takes longer than it may."""
    return ApiError(
        504,
        f"the request took more than {SECONDS} s; ask for fewer tokens",
        headers={"x-should-retry": "false"},
    )


async def joined(deltas: AsyncIterator[Delta]) -> list[Delta]:
    """Returns each choice as one delta, in their order."""
    parts: dict[int, list[Delta]] = {}
    async for delta in deltas:
        parts.setdefault(delta.index, []).append(delta)
    return [
        Delta(
            index,
            "".join(part.text for part in parts[index]),
            [scored for part in parts[index] for scored in part.scored],
            parts[index][-1].finish_reason,
        )
        for index in sorted(parts)
    ]


def sampling_of(
    body: TextRequest, run: ServedRun, max_tokens: int, stop_tokens: tuple[int, ...]
) -> SamplingConfig:
    """Returns how a request's texts are written; a seed that it does not name is drawn.

    Raises ApiError for settings that are out of range.
    """
    with as_bad_request():
        config = SamplingConfig(
            max_new_tokens=max_tokens,
            min_new_tokens=value_or(body.min_tokens, 0),
            temperature=value_or(body.temperature, 1.0),
            top_k=body.top_k,
            top_p=body.top_p,
            min_p=body.min_p,
            repetition_penalty=value_or(body.repetition_penalty, 1.0),
            presence_penalty=value_or(body.presence_penalty, 0.0),
            frequency_penalty=value_or(body.frequency_penalty, 0.0),
            logit_bias=biases(body),
            stop_tokens=stop_tokens,
            stop=stop_strings(body),
            seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
        )
        config.require_ids(run.model.config.vocab_size)
    return config


def value_or(value: T | None, default: T) -> T:
    """Returns a value, or the default where it is None."""
    return default if value is None else value


def require_few(n_prompts: int, n: int) -> None:
    """Raises ApiError where a request asks for more texts than one may."""
    if n_prompts * n > MAX_TEXTS:
        raise ApiError(
            400, f"{n_prompts} prompts with n {n} are more than {MAX_TEXTS} texts", param="n"
        )


async def unless_disconnected(receive: Receive, work: Awaitable[T]) -> T | None:
    """Returns the result of work, or None where the client leaves first; then it is cancelled."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(disconnected(receive))
    try:
        await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, gone):
            each.cancel()
            with suppress(asyncio.CancelledError, ApiError):
                await each


async def disconnected(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
