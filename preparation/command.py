"""`python main.py prepare`: text of any size becomes token shards, which `train` reads.

Previous: settings.py.  Next: sources.py.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from cfg_gpt2 import DataConfig, require
from data import SPLITS
from data.file_types import common_type
from data.notes import note_on_share
from data.piped_text import keep_piped
from data.shards import INDEX_FILE, Index, check_shards, read_index
from data.sources import SAMPLE_BYTES
from data.stream import token_dtype
from data.text_files import find_files
from data.token_files import VOCAB_SIZE, vocabulary_identity
from preparation.settings import DataFlags, PrepareCommand
from preparation.shard_writer import PROGRESS_FILE, Preparation
from preparation.sources import DataSet, DataSource, JsonLines, TextFiles
from preparation.worker_pool import worker_pool
from run_directory.lock import only_writer, only_writer_of
from run_directory.paths import name_as_text
from run_directory.printable import main_command
from tokenizer import Tokenizer
from training.progress import QUIET_SECONDS, Bar, clock, new_console

FORMAT = 1  # of progress.json and the shards; raised when the same data would give others
SAVE_SECONDS = 5.0  # between saves, from which a stopped preparation goes on


def prepare(command: PrepareCommand) -> int:
    """`python main.py prepare`: makes a folder of shards, or checks one; returns the status."""
    console = new_console()
    if command.check:
        describe(console, command.check, check_with_bar(command.check, console))
        console.print("all checksums are met")
        return 0
    assert command.out
    out = command.out
    instead = "choose another --out"
    with only_writer_of(out, instead, console.print):
        require(not os.path.lexists(out), f"--out {out} exists; name another folder, or remove it")
        part = out.with_name(f".{out.name}.part")
        with only_writer(part, instead, console.print):
            if not (part / INDEX_FILE).is_file():
                make_shards(command, part, console)
            (part / PROGRESS_FILE).unlink(missing_ok=True)
        part.rename(out)
    describe(console, out, read_index(out))
    console.print(f"Next, learn from it:\n  {main_command('train', '--data.path', out)}")
    return 0


def make_shards(command: PrepareCommand, part: Path, console: Console) -> None:
    """Writes the files of a prepared folder, from the beginning or from where a call stopped."""
    source = open_source(command)
    for note in source.notes:
        console.print(f"note       {note}")
    vocabulary = vocabulary_identity(command.data.tokenizer, command.data.vocab_size)
    identity = [FORMAT, source.identity, vocabulary, command.shard_tokens]
    begun = (part / PROGRESS_FILE).is_file()
    if not begun:
        make_tokenizer(command.data, source, console).save(part)
    tokenizer = Tokenizer.load(part)
    dtype = token_dtype(tokenizer.vocab_size).newbyteorder("<")
    preparation = Preparation(part, identity, dtype, command.shard_tokens)
    if begun:
        preparation.resume()
        console.print(f"going on at {preparation.size / 1e6:,.0f} MB")
    preparation.save()
    n_workers = command.workers or os.cpu_count() or 1
    display = speed_display(console, source.n_bytes, preparation.size)
    with worker_pool(n_workers, part, dtype) as workers, display as show:
        saved = time.monotonic()
        for position, job, encoded in workers.encode(source.jobs(preparation.position)):
            preparation.write(position, job.size, encoded)
            show(preparation.size)
            if time.monotonic() - saved > SAVE_SECONDS:
                preparation.save()
                saved = time.monotonic()
        index = preparation.finish(tokenizer.end_of_text, list(map(name_as_text, source.names)))
    for note in note_on_share(source.share, {split: index.n_bytes(split) for split in SPLITS}):
        console.print(f"note       {note}")


def open_source(command: PrepareCommand) -> DataSource:
    """Opens the data. Raises FileNotFoundError or ValueError where that fails."""
    settings = DataConfig(
        path=command.data.path or ("-",),
        tokenizer=command.data.tokenizer,
        vocab_size=command.data.vocab_size,
        validation_share=command.data.validation_share,
    )
    share = settings.validation_share
    if command.dataset is not None:
        names = [" ".join(filter(None, (command.dataset, command.subset, command.dataset_split)))]
        origin = {"path": command.dataset, "name": command.subset, "split": command.dataset_split}
        return DataSet(origin, names, command.text_field, share)
    paths = keep_piped(command.data.path, settings.cache_dir)
    files = list(find_files(paths).sizes)
    kind = common_type(files)
    if kind == "JSONL":
        return JsonLines(paths, command.text_field, share)
    if kind == "Parquet":
        origin = {"path": "parquet", "data_files": list(map(str, files)), "split": "train"}
        return DataSet(origin, list(command.data.path), command.text_field, share)
    return TextFiles(replace(settings, path=paths))


def make_tokenizer(data: DataFlags, source: DataSource, console: Console) -> Tokenizer:
    """Trains or loads the tokenizer that the settings ask for."""
    if data.tokenizer != "bpe":
        return Tokenizer.from_gpt2(data.tokenizer)
    console.print("training the tokenizer")
    with Bar(console, "learning the tokens", 0) as bar:
        return Tokenizer.train(sample(source), data.vocab_size or VOCAB_SIZE, lambda: bar.move(0))


def sample(source: DataSource) -> Iterator[str]:
    """Yields at most SAMPLE_BYTES of the training text, for BPE to learn from.

    They are spread evenly over the text where its size is known.
    """
    every = max(1, -(-source.n_bytes // SAMPLE_BYTES))
    taken = 0
    for number, (_, job) in enumerate(source.jobs(0)):
        if number % every == 0:
            for passage in job.passages():
                if passage.split == "train":
                    yield passage.text
            taken += job.size
            if taken >= SAMPLE_BYTES:
                return


@contextmanager
def speed_display(console: Console, total: int, done: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that takes the bytes done and shows them, the speed, and the time.

    That is a bar where `total`, the number of bytes in all, is known, and plain lines where it
    is 0. `done` bytes come from an earlier call.
    """
    started = last_line = time.monotonic()
    first = done
    with ExitStack() as stack:
        bar = stack.enter_context(Bar(console, "preparing", total, done)) if total else None

        def show(done: int) -> None:
            nonlocal last_line
            now = time.monotonic()
            speed = (done - first) / 1e6 / max(now - started, 1e-3)
            line = f"{done / 1e6:,.0f} MB  {speed:.1f} MB/s"
            if bar:
                bar.move(done, line)
            elif now - last_line > QUIET_SECONDS:
                last_line = now
                console.print(f"preparing  {line}  {clock(now - started)}")

        try:
            yield show
        except KeyboardInterrupt:
            stack.close()
            console.print("Stopped. The same command goes on from here.")
            raise


def check_with_bar(folder: Path, console: Console) -> Index:
    """Compares all checksums of a prepared folder and returns its index; shows a bar."""
    read_index(folder)
    bars: list[Bar] = []

    def report(done: int, total: int, what: str) -> None:
        if not bars:
            bars.append(Bar(console, what, total))
        bars[0].move(done, f"{done / 1e6:,.0f} MB")

    return check_shards(folder, report)


def describe(console: Console, folder: Path, index: Index) -> None:
    """Prints how much there is in a prepared folder."""
    for split in SPLITS:
        shards = index.shards(split)
        n_tokens, n_bytes = sum(shard.tokens for shard in shards), index.n_bytes(split)
        n_documents = sum(shard.documents for shard in shards)
        console.print(
            f"{split:10} {n_tokens:,} tokens of {n_bytes / max(1, n_tokens):.2f} bytes, "
            f"{n_documents:,} documents, {len(shards):,} shards"
        )
    console.print(f"folder     {folder}, {index.dtype}")
