"""Engine: many requests generate at once, each as if it were alone.

    engine.submit(prompt, config, on_piece)   a text, piece by piece      -> Ticket, to cancel it
    engine.score(tokens)                      how probable a text is      -> Future

One thread owns the model. In each turn it drops the cancelled rows, lets waiting ones into free
slots, reads a piece of one prompt and takes one step for all ready rows. A step reads every weight
once, whatever the number of rows, which is what batching gains on a CPU.
A row draws with its own random numbers, so in fp32 its text is that of `generate` with the same
seed, whoever else is served; a matmul's sums depend on the number of rows by rounding alone.
Previous: choosing.py.  Next: runs.py.
"""

import atexit
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import torch

from cfg_gpt2 import require
from decoding.engine import start_rows, suppress_unknown_ids
from decoding.rows import RowState
from decoding.settings import SamplingConfig
from gpt2 import GPT2Model
from serving.choosing import choose
from serving.scoring import Scores, Scoring
from serving.slots import Slots
from serving.tickets import Piece, QueueFull, ShuttingDown, Ticket
from tokenizer import Tokenizer

# Tokens of a prompt in a turn. Alone: a row that is cancelled meanwhile is noticed after them.
# Beside rows that generate: so many take about twice the time of a step, and the rows wait for it.
READ_ALONE = 96
READ_BESIDE, READ_BESIDE_EACH = 6, 2
T = TypeVar("T")


class Engine:
    """Serves one model; slots is how many rows it generates at once."""

    def __init__(
        self, model: GPT2Model, tokenizer: Tokenizer, slots: int = 8, max_waiting: int = 64
    ) -> None:
        self.model, self.tokenizer, self.max_waiting = model, tokenizer, max_waiting
        self.slots: Slots[Ticket] = Slots(model, slots)
        self.waiting: deque[Ticket] = deque()
        self.scorings: deque[Scoring] = deque()
        self.scores_next = False  # whether a text to be scored is read before a row's prompt
        self.deadline: float | None = None  # when a stopped engine gives up; None: it goes on
        self.work = threading.Condition()  # guards all of these but the slots
        self.thread = threading.Thread(target=self.run, name="engine", daemon=True)

    @property
    def n_running(self) -> int:
        """How many rows have a slot."""
        return len(self.slots.rows)

    @property
    def n_waiting(self) -> int:
        """How many requests wait."""
        return len(self.waiting) + len(self.scorings)

    def start(self) -> None:
        """Starts the engine's thread."""
        atexit.register(self.stop, 0)  # a thread that is killed within PyTorch aborts the process
        self.thread.start()

    def stop(self, seconds: float) -> None:
        """Takes no more requests, and returns when those under way have ended.

        Those that have not after so many seconds end as if they had been cancelled.
        """
        with self.work:
            self.deadline = time.monotonic() + seconds
            self.work.notify()
        self.thread.join()
        atexit.unregister(self.stop)

    def submit(
        self,
        prompt: list[int],
        config: SamplingConfig,
        on_piece: Callable[[Piece], None],
        n_top: int = 0,
    ) -> Ticket:
        """Asks for one text; the engine's thread calls on_piece for each token of it.

        Raises ValueError for a prompt or settings that cannot be served, QueueFull where too many
        wait, ShuttingDown after `stop`.
        """
        require(config.beams == 1, "beams are not served; search with python main.py generate")
        self.require_fits(prompt)
        config = suppress_unknown_ids(config, self.model.config.vocab_size, self.tokenizer)
        row = RowState(prompt=list(prompt), seed=config.seed)
        start_rows(self.model, [row], config, self.tokenizer)
        ticket = Ticket(row, config, on_piece, n_top)
        self.enqueue(self.waiting, ticket)
        return ticket

    def score(self, tokens: list[int], n_top: int = 0) -> Future[Scores]:
        """Asks for the log-probability of each token but the first. The future can be cancelled.

        Raises as `submit` does.
        """
        self.require_fits(tokens)
        rows = [RowState(prompt=list(tokens), seed=0)]
        start_rows(self.model, rows, SamplingConfig(), self.tokenizer)
        scoring = Scoring(list(tokens), n_top)
        self.enqueue(self.scorings, scoring)
        return scoring.future

    def require_fits(self, tokens: list[int]) -> None:
        """Raises ValueError where a text is longer than the context."""
        limit = self.model.config.context_length
        require(
            len(tokens) <= limit,
            f"the prompt has {len(tokens)} tokens, and the model's context_length is {limit}; "
            f"shorten it (lm-eval: max_length={limit})",
        )

    def enqueue(self, queue: deque[T], item: T) -> None:
        """Appends to one of the queues and wakes the thread. Raises QueueFull, ShuttingDown."""
        with self.work:
            if self.deadline is not None:
                raise ShuttingDown("the server is shutting down; ask again when it is back")
            if len(queue) >= self.max_waiting:
                raise QueueFull(f"{len(queue)} requests wait already; ask again in a moment")
            queue.append(item)
            self.work.notify()

    # The engine's thread ------------------------------------------------------------------

    @torch.inference_mode()
    def run(self) -> None:
        """Takes turns until the engine is stopped."""
        try:
            while self.has_work():
                self.turn()
        finally:  # nobody waits for ever, whatever has ended the thread
            with self.work:
                self.deadline = self.deadline or time.monotonic()
            for ticket in [*self.slots.rows, *self.waiting]:
                ticket.end("cancelled")
            for scoring in self.scorings:
                scoring.fail(ShuttingDown("the server is shutting down"))

    def has_work(self) -> bool:
        """Waits for work; returns False when the engine is stopped, and has ended or given up."""
        with self.work:
            while True:
                n = self.n_running + self.n_waiting
                if self.deadline is not None:
                    return n > 0 and time.monotonic() < self.deadline
                if n:
                    return True
                self.work.wait()

    def turn(self) -> None:
        """Gives every ready row one more token, and the others a part of what they wait for."""
        self.drop_cancelled()
        self.admit()
        self.read()
        slots = self.slots
        if slots.n_ready:
            tickets = slots.rows[: slots.n_ready]
            choose(slots.step(), tickets)
            for ticket in tickets:
                if ticket.is_done:
                    slots.leave(ticket)
            slots.move_windows()

    def read(self) -> None:
        """Reads a piece of a row's prompt or of a text to be scored, by turns where both wait."""
        n = self.slots.n_ready
        n_tokens = READ_BESIDE + READ_BESIDE_EACH * n if n else READ_ALONE
        self.scores_next = bool(self.scorings) and (self.scores_next or not self.slots.queue)
        if not self.scores_next:
            self.slots.read(n_tokens)
        elif not self.scorings[0].read(self.model, n_tokens):
            self.scorings.popleft()
        self.scores_next = not self.scores_next

    def drop_cancelled(self) -> None:
        """Takes the cancelled rows out of the slots and out of the queue."""
        for ticket in [ticket for ticket in self.slots.rows if ticket.is_cancelled]:
            self.slots.leave(ticket)
            ticket.end("cancelled")
        with self.work:
            cancelled = [ticket for ticket in self.waiting if ticket.is_cancelled]
            for ticket in cancelled:
                self.waiting.remove(ticket)
        for ticket in cancelled:
            ticket.end("cancelled")

    def admit(self) -> None:
        """Lets waiting rows into free slots."""
        with self.work:
            while self.waiting and not self.slots.is_full:
                self.slots.join(self.waiting.popleft())
