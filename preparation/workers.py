"""Several processes that encode, each served by a thread; answers come in the order of the jobs.

The processes are programs of their own (worker.py) that are spoken to through pipes: nothing is
pickled, nothing is imported twice, and none outlives the command, however it ends.
Previous: worker.py.  Next: shard_writer.py.
"""

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np

from data import SPLITS
from preparation.jobs import Job
from preparation.worker import Amount, Encoded

HOUSE = Path(__file__).resolve().parent.parent


class Workers:
    """`count` processes with the tokenizer of a folder. Use as a context manager."""

    def __init__(self, count: int, folder: Path, dtype: np.dtype) -> None:
        self.count, self.dtype = count, dtype
        module = [sys.executable, "-m", "preparation.worker"]
        self.command = [*module, str(folder.resolve()), dtype.str]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.mine = threading.local()
        self.threads = ThreadPoolExecutor(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error:
            for process in self.processes:
                process.kill()
        self.threads.shutdown(cancel_futures=True)
        for process in self.processes:
            process.communicate()  # the end of its input is the end of its work

    def encode(self, jobs: Iterable[tuple[int, Job]]) -> Iterator[tuple[int, Job, Encoded]]:
        """Each job with what is in it, in order; few are under way at a time, to bound memory."""
        under_way: deque[tuple[int, Job, Future[Encoded]]] = deque()
        for position, job in jobs:
            under_way.append((position, job, self.threads.submit(self.ask, job)))
            if len(under_way) > 2 * self.count:
                position, job, answer = under_way.popleft()
                yield position, job, answer.result()
        for position, job, answer in under_way:
            yield position, job, answer.result()

    def ask(self, job: Job) -> Encoded:
        """Sends a job to this thread's process and waits for the answer.

        Raises ValueError where the process refuses it, ChildProcessError where it has died.
        """
        process = self.own_process()
        assert process.stdin and process.stdout
        try:
            process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
            process.stdin.flush()
            header = json.loads(process.stdout.readline())
            if "error" in header:
                raise Refused(header["error"])
            amounts = {split: Amount(**header[split]) for split in SPLITS}
            return {split: (a, self.read(process.stdout, a)) for split, a in amounts.items()}
        except Refused:
            raise
        except (OSError, ValueError):  # a broken pipe, or half an answer
            raise ChildProcessError(
                f"a process that encodes has ended with status {process.wait()}, perhaps for lack "
                "of memory; the same command goes on, with fewer --workers if need be"
            ) from None

    def read(self, answers: IO[bytes], amount: Amount) -> bytes:
        wanted = amount.tokens * self.dtype.itemsize
        tokens = answers.read(wanted)
        if len(tokens) < wanted:
            raise BrokenPipeError
        return tokens

    def own_process(self) -> "subprocess.Popen[bytes]":
        """This thread's process, started when it is needed first."""
        if not hasattr(self.mine, "process"):
            self.mine.process = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HOUSE,
                env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
            )  # fmt: skip
            self.processes.append(self.mine.process)
        return self.mine.process


class Refused(ValueError):
    """What a worker says about data that it cannot encode."""
