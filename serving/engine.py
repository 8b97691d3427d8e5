"""The engine of a served run: one thread owns the model and writes what requests ask for.

Previous: settings.py.  Next: runs.py.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Literal

import torch
from torch import Tensor

from cfg_gpt2 import require
from decoding.batch import RowBatch
from decoding.engine import start_rows, suppress_unknown_ids
from decoding.rows import RowState
from decoding.sampling import sample_rows
from decoding.settings import SamplingConfig
from gpt2 import GPT2Model
from tokenizer import Tokenizer

FinishReason = Literal["stop", "length", "cancelled"]
Top = tuple[tuple[int, float], ...]  # token ids and their log-probabilities, the likeliest first


@dataclass(frozen=True)
class Piece:
    """One more token of a text, with the text that is certain by it.

    A stop token that ends a text is the last piece's token; its own letters are not in the text.
    """

    token: int | None  # None: the text was cancelled
    text: str = ""  # lags the tokens: see decoding/stop_strings.py
    log_probability: float = 0.0  # in nats, by the model, before any sampling setting
    top: Top = ()
    finish_reason: FinishReason | None = None


@dataclass
class Ticket:
    """What the engine was asked for, which may be cancelled at any time."""

    row: RowState
    config: SamplingConfig
    on_piece: Callable[[Piece], None]
    n_top: int
    is_cancelled: bool = field(default=False)

    def cancel(self) -> None:
        """Ends the text as soon as possible; its last piece says that it was cancelled."""
        self.is_cancelled = True


class QueueFull(RuntimeError):
    """Raised where too many texts wait."""


class Engine:
    """Writes texts, one after the other."""

    def __init__(
        self, model: GPT2Model, tokenizer: Tokenizer, slots: int = 8, max_waiting: int = 64
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.slots, self.max_waiting = slots, max_waiting
        self.n_running = 0
        self.queue: SimpleQueue[Ticket | Callable[[], None]] = SimpleQueue()
        self.is_stopping = False
        self.thread = threading.Thread(target=self.work, daemon=True)

    @property
    def n_waiting(self) -> int:
        """How many texts wait for a slot."""
        return self.queue.qsize()

    def start(self) -> None:
        """Starts the thread."""
        self.thread.start()

    def stop(self, seconds: float) -> None:
        """Cancels everything, and waits so long for the thread to end."""
        self.is_stopping = True
        self.thread.join(seconds)

    def submit(
        self,
        prompt: list[int],
        config: SamplingConfig,
        on_piece: Callable[[Piece], None],
        n_top: int = 0,
    ) -> Ticket:
        """Asks for a text; on_piece is called in the engine's thread.

        Raises ValueError for what cannot be served, QueueFull where too many wait.
        """
        context = self.model.config.context_length
        require(
            len(prompt) + config.max_new_tokens <= context + 1,
            f"the prompt has {len(prompt)} tokens and max_tokens is {config.max_new_tokens}; "
            f"context_length is {context} (lm-eval: max_length={context})",
        )
        if self.n_waiting >= self.max_waiting + self.slots:
            raise QueueFull(f"{self.max_waiting} texts wait already")
        row = RowState(prompt=prompt, seed=config.seed)
        config = suppress_unknown_ids(config, self.model.config.vocab_size, self.tokenizer)
        start_rows(self.model, [row], config, self.tokenizer)
        ticket = Ticket(row, config, on_piece, n_top)
        self.queue.put(ticket)
        return ticket

    def score(self, tokens: list[int], n_top: int) -> "Future[tuple[list[float], list[Top]]]":
        """Returns the log-probability of each token but the first, and the likeliest instead."""
        future: Future[tuple[list[float], list[Top]]] = Future()

        @torch.inference_mode()
        def work() -> None:
            logits = self.model(torch.tensor([tokens], device=self.model.device))[0, :-1].float()
            log_probabilities = logits.log_softmax(dim=-1)
            chosen = log_probabilities.gather(-1, torch.tensor(tokens[1:])[:, None])[:, 0]
            future.set_result((chosen.tolist(), [likeliest(x, n_top) for x in log_probabilities]))

        self.queue.put(work)
        return future

    def work(self) -> None:
        """Does what the queue holds until the engine is stopped."""
        while not self.is_stopping or self.n_waiting:
            try:
                task = self.queue.get(timeout=0.1)
            except Empty:
                continue
            if isinstance(task, Ticket):
                self.n_running = 1
                self.write(task)
                self.n_running = 0
            else:
                task()

    @torch.inference_mode()
    def write(self, ticket: Ticket) -> None:
        """Writes one text to its end."""
        row = ticket.row
        batch = RowBatch(self.model, [row], ticket.config.max_new_tokens)
        logits = batch.prefill()
        while not (ticket.is_cancelled or self.is_stopping):
            tokens = sample_rows(logits, [row], ticket.config)
            log_probabilities = logits.log_softmax(dim=-1)[0]
            token = int(tokens)
            value = float(log_probabilities[token])
            n_pieces = len(row.pieces)
            row.add(token, value, ticket.config)
            reason = None if row.reason is None else "length" if row.reason == "length" else "stop"
            text = "".join(row.pieces[n_pieces:])
            top = likeliest(log_probabilities, ticket.n_top)
            ticket.on_piece(Piece(token, text, value, top, reason))
            if reason:
                return
            logits = batch.step(tokens)
        ticket.on_piece(Piece(None, finish_reason="cancelled"))


def likeliest(log_probabilities: Tensor, n: int) -> Top:
    """(V,) -> the n likeliest tokens with their log-probabilities."""
    values, ids = log_probabilities.topk(min(n, len(log_probabilities)))
    return tuple(zip(ids.tolist(), values.tolist(), strict=True))
