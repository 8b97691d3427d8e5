"""Where a large text comes from: text files, JSONL files, or a data set of Hugging Face.

A source cuts its data into jobs. Behind each job there is a position, one number, from which the
source goes on after a stop.
Previous: command.py.  Next: jobs.py.
"""

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Protocol

from cfg_gpt2 import DataConfig, require
from data import SPLITS
from data.json_lines import json_name
from data.notes import notes_on_files, notes_on_marks
from data.sources import TextFileSource
from data.splits import share_or_default
from data.text_files import Span, find_files, fingerprint
from preparation import jobs
from preparation.jobs import Job, LinesJob, RowsJob, TextJob

MAX_ROWS = 4096  # of a data set in one job
UNKNOWN_SHARE = 0.002  # of a data set of unknown size that is for validation


class DataSource(Protocol):
    """The data that is prepared."""

    names: list[str]  # of the data, for people
    notes: list[str]  # what people should know of the files
    share: float  # of the text that is for validation
    identity: list  # changes when the data or their split do
    n_bytes: int  # 0 where the size is unknown

    def jobs(self, position: int) -> Iterator[tuple[int, Job]]:
        """Yields the jobs behind a position, each with the position behind it."""
        ...


class TextFiles:
    """Text files, each a document, split as `train` does it."""

    def __init__(self, config: DataConfig) -> None:
        source = TextFileSource(config)
        self.spans, self.identity, self.share = source.spans, source.identity, source.share
        self.notes = [*notes_on_files(source.found), *notes_on_marks(source.found.sizes)]
        self.names = list(config.path)
        self.n_bytes = sum(map(source.n_bytes, SPLITS))

    def jobs(self, position: int) -> Iterator[tuple[int, Job]]:
        """Yields jobs from a position on, each with the position after it."""
        every = (
            TextJob(
                split=split,
                path=str(span.path),
                start=start,
                stop=stop,
                document_start=span.start,
                document_stop=span.stop,
            )
            for split in SPLITS
            for span in self.spans[split]
            for start, stop in job_ranges(span)
        )
        return islice(enumerate(every, start=1), position, None)


class JsonLines:
    """JSONL files, each line a document."""

    def __init__(self, paths: Sequence[str], field: str, share: float | None) -> None:
        found = find_files(paths)
        self.files, self.notes = found.sizes, notes_on_files(found, field)
        self.field, self.names = field, list(paths)
        self.n_bytes = sum(self.files.values())
        self.share = share_or_default(share, self.n_bytes)
        self.identity = ["lines", field, self.share, *map(fingerprint, self.files)]

    def jobs(self, position: int) -> Iterator[tuple[int, Job]]:
        """Yields jobs from a position on, each with the position after it."""
        every = (
            LinesJob(
                path=str(file),
                start=start,
                stop=stop,
                field=self.field,
                validation_share=self.share,
            )
            for file, size in self.files.items()
            for start, stop in job_ranges(Span(file, 0, size))
        )
        return islice(enumerate(every, start=1), position, None)


class DataSet:
    """A data set that the library `datasets` streams: parquet files, or one of the hub."""

    def __init__(self, arguments: dict, names: list[str], field: str, share: float | None) -> None:
        """Opens the data set; arguments are those of datasets.load_dataset.

        Raises ValueError where the library is missing, the data set cannot be opened, or it has
        no column `field`.
        """
        missing = "is not installed; pip install -e '.[datasets]'"
        present = importlib.util.find_spec("datasets") is not None
        require(present, f"{', '.join(names)} is read by the package datasets, which {missing}")
        library = importlib.import_module("datasets")
        try:
            self.rows = library.load_dataset(**arguments, streaming=True)
        except (ValueError, OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{', '.join(names)} cannot be opened: {reason}") from None
        columns = self.rows.column_names
        known = ", ".join(columns or [])
        require(
            columns is None or field in columns,
            f"{', '.join(names)} has no column {field!r} but {known}; name one by --text-field",
        )
        self.field, self.names = field, names
        info = (self.rows.info.splits or {}).get(arguments["split"])
        self.n_bytes = (info.num_bytes or 0) if info else 0
        default = share_or_default(None, self.n_bytes) if self.n_bytes else UNKNOWN_SHARE
        self.share, self.notes = share or default, []
        version = str(self.rows.info.download_checksums or self.rows.info.version or "")
        self.identity = ["rows", names, field, self.share, version]

    def jobs(self, position: int) -> Iterator[tuple[int, Job]]:
        """Yields jobs from a position on, each with the position after it."""
        texts: list[str] = []
        size, first = 0, position
        for row in self.rows.skip(position):
            text = row[self.field]
            where = f"row {first + len(texts)} of {', '.join(self.names)}"
            require(
                isinstance(text, str),
                f"{where} has {json_name(text)} in {self.field!r} where a text is needed; leave "
                "it out, or name another column by --text-field",
            )
            texts.append(text)
            size += len(text)
            if size >= jobs.JOB_BYTES or len(texts) == MAX_ROWS:
                yield first + len(texts), self.job(texts, first)
                texts, size, first = [], 0, first + len(texts)
        if texts:
            yield first + len(texts), self.job(texts, first)

    def job(self, texts: list[str], first: int) -> Job:
        """Returns the job of some rows, of which the first has the number `first`."""
        return RowsJob(texts=texts, first=first, validation_share=self.share)


def job_ranges(span: Span) -> Iterator[tuple[int, int]]:
    """Yields a file, or a part of one, in ranges of JOB_BYTES bytes."""
    for start in range(span.start, span.stop, jobs.JOB_BYTES):
        yield start, min(start + jobs.JOB_BYTES, span.stop)
