"""Several worker processes, each served by a thread; answers come in the order of the jobs.

The processes are programs of their own (worker_process.py) that get their jobs through pipes:
nothing is pickled, nothing is imported twice, and none outlives the command, however it ends.
Previous: worker_process.py.  Next: shard_writer.py.
"""

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from data import SPLITS
from preparation.jobs import Job, job_to_json
from preparation.worker_process import Counts, EncodedJob

ROOT = Path(__file__).resolve().parent.parent


@contextmanager
def worker_pool(n_workers: int, folder: Path, dtype: np.dtype) -> "Iterator[WorkerPool]":
    """Yields n_workers processes with the tokenizer of a folder, and ends them afterwards."""
    pool = WorkerPool(n_workers, folder, dtype)
    try:
        yield pool
    except BaseException:
        for process in pool.processes:
            process.kill()
        raise
    finally:
        pool.threads.shutdown(cancel_futures=True)
        for process in pool.processes:
            process.communicate()  # a process ends at the end of its input


class WorkerPool:
    """The processes, started when they are needed first, and the threads that talk to them."""

    def __init__(self, n_workers: int, folder: Path, dtype: np.dtype) -> None:
        self.n_workers, self.dtype = n_workers, dtype
        module = [sys.executable, "-m", "preparation.worker_process"]
        self.command = [*module, str(folder.resolve()), dtype.str]
        self.processes: list[subprocess.Popen[bytes]] = []
        self.of_thread = threading.local()
        self.threads = ThreadPoolExecutor(n_workers)

    def encode(self, jobs: Iterable[tuple[int, Job]]) -> Iterator[tuple[int, Job, EncodedJob]]:
        """Yields each job, with its position, and its tokens, in the order of the jobs.

        Few jobs are under way at a time, to bound memory. Raises ValueError where a process
        refuses a job, and ChildProcessError where a process has died.
        """
        under_way: deque[tuple[int, Job, Future[EncodedJob]]] = deque()
        for position, job in jobs:
            under_way.append((position, job, self.threads.submit(self.ask, job)))
            if len(under_way) > 2 * self.n_workers:
                position, job, answer = under_way.popleft()
                yield position, job, answer.result()
        for position, job, answer in under_way:
            yield position, job, answer.result()

    def ask(self, job: Job) -> EncodedJob:
        """Sends a job to this thread's process and returns the answer; raises as encode does."""
        process = self.own_process()
        assert process.stdin and process.stdout
        try:
            process.stdin.write(job_to_json(job))
            process.stdin.flush()
            header = json.loads(process.stdout.readline())
            if "error" in header:
                raise JobRefused(header["error"])
            counts = {split: Counts(**header[split]) for split in SPLITS}
            return {split: (c, self.read(process.stdout, c)) for split, c in counts.items()}
        except JobRefused:
            raise
        except (OSError, ValueError):  # a broken pipe, or half an answer
            raise ChildProcessError(reason_of_end(process.wait(), job)) from None

    def read(self, answers: IO[bytes], counts: Counts) -> bytes:
        """Returns the tokens that a header has announced; raises BrokenPipeError for fewer."""
        size = counts.tokens * self.dtype.itemsize
        tokens = answers.read(size)
        if len(tokens) < size:
            raise BrokenPipeError
        return tokens

    def own_process(self) -> "subprocess.Popen[bytes]":
        """Returns this thread's process, and starts it at the first call."""
        if not hasattr(self.of_thread, "process"):
            self.of_thread.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT,
                process_group=0,  # Ctrl-C is for this process
                env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
            )
            self.processes.append(self.of_thread.process)
        return self.of_thread.process


def reason_of_end(status: int, job: Job) -> str:
    """Returns a sentence on a process that ended at a job: killed, or with an error of its own."""
    what = f"a process that encodes has ended with status {status}"
    if status < 0:
        return (
            f"{what}, perhaps for lack of memory; the same command goes on, with fewer --workers "
            "if need be"
        )
    where = f"bytes {job.start} to {job.stop} of {job.path}" if job.kind != "rows" else "a row"
    return f"{what} at {where}, for the reason above; leave that out, and prepare anew"


class JobRefused(ValueError):
    """A worker process cannot encode the data of a job; the message says why."""
