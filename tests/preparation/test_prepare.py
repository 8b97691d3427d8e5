"""prepare: the same tokens as train makes, whoever works and however often it is stopped."""

import filecmp
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles.corpora import patient
from oracles.random_folders import is_far_from, is_tiny, rests_of, small_folder, write_texts

import main
from cfg_gpt2 import DataConfig
from data import SPLITS, text_files
from data.notes import note_on_share
from data.shards import read_index
from load_data import load_corpus
from preparation import command as prepare_command
from preparation import jobs
from preparation.jobs import LinesJob, RowsJob, TextJob, next_word_boundary, split_document
from preparation.settings import DataFlags, PrepareCommand
from preparation.sources import DataSet, JsonLines, TextFiles
from preparation.word_cache import WordCache
from preparation.worker_pool import reason_of_end, worker_pool
from preparation.worker_process import encode
from tokenizer import Tokenizer

ROOT = Path(main.__file__).parent
CORPORA = ROOT.parent / "shared" / "corpora"
PROSE = "The fox asked where the drum was. «В сарае», сказала курица, isn't it?\n\n"


def book(folder: Path, n: int, size: int, seed: int = 0) -> Path:
    """`n` text files of words in which few sequences repeat."""
    folder.mkdir(parents=True)
    draw = random.Random(seed)
    for number in range(n):
        words = draw.choices(PROSE.split(" "), k=size // 6)
        (folder / f"{number:03d}.txt").write_text(" ".join(words), encoding="utf-8")
    return folder


def lines(file: Path, n: int) -> list[str]:
    """A JSONL file -> its texts."""
    draw = random.Random(n)
    texts = [f"{number}: " + PROSE * draw.randint(1, 5) for number in range(n)]
    rows = [json.dumps({"id": k, "text": text}) for k, text in enumerate(texts)]
    file.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return texts


def prepare(*arguments: object) -> int:
    return main.main(["prepare", *map(str, arguments)])


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Everything that was written."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def tokens_of(folder: Path, split: str) -> list[int]:
    index = read_index(folder)
    shards = [np.fromfile(folder / s.file, index.dtype) for s in index.shards(split)]
    return np.concatenate(shards).tolist()


def documents(folder: Path, split: str) -> list[str]:
    tokenizer = Tokenizer.load(folder)
    ids = tokens_of(folder, split)
    assert ids[0] == ids[-1] == tokenizer.end_of_text
    boundaries = [n for n, id in enumerate(ids) if id == tokenizer.end_of_text]
    return [tokenizer.decode(ids[a + 1 : b]) for a, b in pairwise(boundaries)]


# The same tokens


@pytest.mark.parametrize("n_files", [2, 21])
def test_text_gives_the_streams_that_train_makes_of_it(
    n_files: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = book(tmp_path / "text", n_files, 40_000)
    monkeypatch.setattr(jobs, "JOB_BYTES", 9_000)
    assert (
        prepare(
            "--data.path",
            text,
            "--data.vocab-size",
            300,
            "--shard-tokens",
            9_000,
            "--workers",
            2,
            "--out",
            tmp_path / "shards",
        )
        == 0
    )
    alone = DataConfig(path=(str(text),), vocab_size=300, cache_dir=str(tmp_path / "cache"))
    whole, shards = load_corpus(alone), load_corpus(DataConfig(path=(str(tmp_path / "shards"),)))
    assert whole.tokenizer.to_json() == shards.tokenizer.to_json()
    for split in SPLITS:
        a, b = getattr(whole, split), getattr(shards, split)
        assert a.tokens[:].tolist() == b.tokens[:].tolist()
        assert a.n_bytes == b.n_bytes
    index = read_index(tmp_path / "shards")
    assert len(index.train) >= 3
    assert sum(shard.documents for shard in index.train) == (2 if n_files == 2 else 18)
    assert all(9_000 <= shard.tokens < 13_000 for shard in index.train[:-1])
    assert prepare("--check", tmp_path / "shards") == 0


def test_what_is_written_does_not_depend_on_the_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines(tmp_path / "rows.jsonl", 200)
    monkeypatch.setattr(jobs, "JOB_BYTES", 5_000)
    made = []
    for workers in (1, 3):
        out = tmp_path / f"with-{workers}"
        assert (
            prepare(
                "--data.path",
                tmp_path / "rows.jsonl",
                "--workers",
                workers,
                "--data.vocab-size",
                300,
                "--out",
                out,
            )
            == 0
        )
        made.append(bytes_of(out))
    assert made[0] == made[1]


def test_every_line_of_jsonl_is_in_exactly_one_split_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = lines(tmp_path / "rows.jsonl", 300)
    monkeypatch.setattr(jobs, "JOB_BYTES", 3_000)
    arguments = ["--data.validation-share", 0.2, "--workers", 1, "--data.vocab-size", 300]
    out = tmp_path / "out"
    assert prepare("--data.path", tmp_path / "rows.jsonl", *arguments, "--out", out) == 0
    train, validation = (documents(tmp_path / "out", split) for split in SPLITS)
    assert sorted(train + validation) == sorted(texts)
    assert train == [text for text in texts if text in set(train)]  # in order
    assert 30 < len(validation) < 90  # 60 of 300, within 4 standard deviations


class Rows:
    """Stands in for a streaming data set, as far as prepare uses one."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def skip(self, n: int) -> "Rows":
        return Rows(self.texts[n:])

    def __iter__(self) -> Iterator[dict]:
        return iter({"text": text} for text in self.texts)


def test_rows_of_a_data_set_go_on_from_any_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "JOB_BYTES", 200)
    texts = [f"{number} " * (number % 40) for number in range(150)]
    source = DataSet.__new__(DataSet)
    source.rows, source.field, source.names, source.share = Rows(texts), "text", ["it"], 0.1
    every = list(source.jobs(0))
    assert len(every) > 10
    for number, (position, _) in enumerate(every, start=1):
        assert list(source.jobs(position)) == every[number:]
    pieces = [piece for _, job in every for piece in job.passages()]
    assert [piece.text for piece in pieces] == [text for text in texts if text]


def test_parquet_through_datasets(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="needs pip install -e '.[datasets]'")
    parquet = pytest.importorskip("pyarrow.parquet")
    arrow = pytest.importorskip("pyarrow")
    texts = lines(tmp_path / "rows.jsonl", 60)
    parquet.write_table(arrow.table({"text": texts}), tmp_path / "rows.parquet")
    common = ["--data.vocab-size", 300, "--data.validation-share", 0.2, "--workers", 1]
    assert prepare("--data.path", tmp_path / "rows.parquet", *common, "--out", tmp_path / "a") == 0
    read = [text for split in SPLITS for text in documents(tmp_path / "a", split)]
    assert sorted(read) == sorted(texts)
    assert (
        prepare(
            "--data.path",
            tmp_path / "rows.parquet",
            "--text-field",
            "body",
            "--out",
            tmp_path / "b",
        )
        == 2
    )


def text_job(file: Path, start: int, stop: int) -> TextJob:
    """A part of a file that is one document of the training split."""
    size = file.stat().st_size
    return TextJob(
        split="train", path=str(file), start=start, stop=stop, document_start=0, document_stop=size
    )


PARTS = ["аб", "x1", " ", "\n", "\r\n", "\u00a0", "  ", "字"]


@patient
@given(
    parts=st.lists(st.sampled_from(PARTS), max_size=40),
    size=st.integers(3, 40),
    read=st.integers(2, 30),
)
def test_jobs_of_a_file_together_have_its_tokens(
    parts: list[str], size: int, read: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("jobs") / "text.txt"
    file.write_bytes("".join(parts).encode())
    last = file.stat().st_size
    text = "".join(parts).replace("\r\n", "\n")
    passages = []
    for start in range(0, last, size):
        job = text_job(file, start, min(start + size, last))
        passages += list(job.passages(search_bytes=last + 1))  # every boundary is found
    # with fewer bytes to search in, not every boundary is found
    boundaries = [next_word_boundary(file, n, last, read) for n in range(0, last, size)]
    assert boundaries == sorted(boundaries)
    assert "".join(passage.text for passage in passages) == text
    words = WordCache(TOKENIZER, np.dtype("<u2"))
    encoded = b"".join(words.encode(passage.text) for passage in passages)
    assert np.frombuffer(encoded, "<u2").tolist() == TOKENIZER.encode(text)


TOKENIZER = Tokenizer.train([PROSE * 5, "aa bb  aa\n\n bb x1 字  字\u00a0"], 330)


@patient
@given(st.text(st.sampled_from("ab \n\t"), max_size=80), st.integers(1, 20))
def test_a_long_document_is_cut_between_words(text: str, size: int) -> None:
    passages = list(split_document(text, "train", size))
    assert "".join(passage.text for passage in passages) == text
    begins = [passage.begins_document for passage in passages]
    assert begins == [n == 0 for n in range(len(passages))]
    ids = [id for passage in passages for id in TOKENIZER.encode(passage.text)]
    assert ids == TOKENIZER.encode(text)


def test_shards_and_a_mix_of_them_are_learned_and_a_text_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--workers", 1, "--data.vocab-size", 300, "--out"]
    assert prepare("--data.path", book(tmp_path / "ta", 1, 9_000), *common, tmp_path / "a") == 0
    assert (
        prepare(
            "--data.path",
            book(tmp_path / "tb", 1, 6_000, seed=1),
            "--workers",
            1,
            "--data.tokenizer",
            tmp_path / "a",
            "--out",
            tmp_path / "b",
        )
        == 0
    )
    train = [
        "train",
        "--data.path",
        str(tmp_path / "a"),
        str(tmp_path / "b"),
        "--model.n-layer",
        "1",
        "--model.n-embd",
        "16",
        "--model.n-head",
        "2",
        "--model.context-length",
        "16",
        "--train.max-steps",
        "4",
        "--train.device",
        "cpu",
        "--train.batch-size",
        "4",
    ]
    for mix in ([], ["--data.mix", "0.75", "0.25"]):
        capsys.readouterr()
        run = str(tmp_path / f"run{len(mix)}")
        assert main.main([*train, *mix, "--out", run]) == 0
        said = capsys.readouterr().out
        shares = re.search(r"(\d\.\d) and (\d\.\d) times through", said)
        assert bool(shares) == bool(mix)  # a figure for each source
        assert main.main(["train", "--resume", run, "--train.max-steps", "6"]) == 0
        capsys.readouterr()
        assert main.main(["evaluate", run, "--device", "cpu"]) == 2
        refused = capsys.readouterr().err
        assert "holds tokens and no text" in refused and refused.count("\n") == 1
        text = str(tmp_path / "ta" / "000.txt")
        assert main.main(["evaluate", run, "--device", "cpu", "--data.path", text]) == 0


# Names, kinds and shares


@pytest.mark.parametrize("pattern", ["rows/*", "rows/*.json*", "rows/a.jso?"])
def test_jsonl_is_read_by_its_content_whatever_names_it(
    pattern: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows").mkdir()
    texts = lines(Path("rows/a.json"), 100)
    common = ["--workers", 1, "--data.vocab-size", 300, "--data.validation-share", 0.2]
    assert prepare("--data.path", pattern, *common, "--out", "out") == 0
    read = [text for split in SPLITS for text in documents(Path("out"), split)]
    assert sorted(read) == sorted(texts)


def test_file_names_that_are_not_utf8_are_read_in_folders(tmp_path: Path) -> None:
    book(tmp_path / "text", 1, 5_000).joinpath("000.txt").rename(
        Path(os.fsdecode(bytes(tmp_path / "text") + b"/\xca\xed.txt"))
    )
    rows = Path(os.fsdecode(bytes(tmp_path) + b"/\xca.jsonl"))
    lines(rows, 50)
    common = ["--workers", 1, "--data.vocab-size", 300, "--out"]
    assert prepare("--data.path", tmp_path / "text", *common, tmp_path / "a") == 0
    assert prepare("--data.path", tmp_path / "*.jsonl", *common, tmp_path / "b") == 0
    assert prepare("--check", tmp_path / "b") == 0


def test_a_share_that_is_missed_and_what_is_left_out_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.dumps({"text": PROSE * (2000 if number == 7 else 1)}) for number in range(60)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    common = ["--workers", 1, "--data.vocab-size", 300, "--out"]
    assert prepare("--data.path", tmp_path / "rows.jsonl", *common, tmp_path / "a") == 0
    assert re.search(
        r"note  .*split is \d.\d\d% of the text where 10.00% was", capsys.readouterr().out
    )
    text = book(tmp_path / "text", 3, 2_000)
    (text / "table.csv").touch()
    assert prepare("--data.path", text, *common, tmp_path / "b") == 0
    assert "note       left out: 1 *.csv;" in capsys.readouterr().out


def test_a_giant_among_many_files_gives_its_end(tmp_path: Path) -> None:
    text = book(tmp_path / "text", 25, 600)
    (text / "000.txt").write_text(PROSE * 3000, encoding="utf-8")
    arguments = ["--workers", 1, "--data.vocab-size", 300, "--out", tmp_path / "out"]
    assert prepare("--data.path", text, *arguments) == 0
    index = read_index(tmp_path / "out")
    assert 0.1 <= index.n_bytes("validation") / sum(map(index.n_bytes, SPLITS)) < 0.11


# Stopped and resumed


def test_a_preparation_that_was_stopped_goes_on_and_writes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = book(tmp_path / "text", 2, 60_000)
    monkeypatch.setattr(jobs, "JOB_BYTES", 8_000)
    monkeypatch.setattr(prepare_command, "SAVE_SECONDS", -1)
    arguments = [
        "--data.path",
        text,
        "--data.vocab-size",
        300,
        "--shard-tokens",
        9_000,
        "--workers",
        1,
        "--out",
    ]
    assert prepare(*arguments, tmp_path / "whole") == 0
    write = prepare_command.Preparation.write
    for stop_after in (1, 4, 7, 2):
        done: list[int] = []

        def stop(
            self: prepare_command.Preparation,
            *what: object,
            done: list = done,
            stop_after: int = stop_after,
        ) -> None:
            if len(done) == stop_after:
                self.writers["train"].file.write(b"not yet saved")
                raise KeyboardInterrupt
            done.append(what[0])
            write(self, *what)

        monkeypatch.setattr(prepare_command.Preparation, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(*arguments, tmp_path / "stopped")
        assert not (tmp_path / "stopped").exists()
        (tmp_path / ".stopped.part" / "train-00099.bin").write_bytes(b"")
        (tmp_path / ".stopped.part" / "train-00099.bin").unlink()
    monkeypatch.setattr(prepare_command.Preparation, "write", write)
    assert prepare(*arguments, tmp_path / "stopped") == 0
    assert bytes_of(tmp_path / "stopped") == bytes_of(tmp_path / "whole")
    assert not (tmp_path / ".stopped.part").exists()


def test_other_data_do_not_go_on_with_what_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = book(tmp_path / "text", 1, 20_000)
    monkeypatch.setattr(prepare_command.Preparation, "finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare("--data.path", text, "--workers", 1, "--out", tmp_path / "out")
    monkeypatch.undo()
    arguments = ["--data.path", text, "--workers", 1, "--out", tmp_path / "out"]
    assert prepare(*arguments, "--shard-tokens", 5000) == 2
    said = capsys.readouterr().err
    assert "was begun with other data or settings; repeat the first command to go on" in said
    assert prepare(*arguments) == 0


def test_a_worker_that_dies_is_said_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "JOB_BYTES", 1_000)  # so many jobs that some are left when it dies
    text = book(tmp_path / "text", 1, 20_000)
    Tokenizer.train([PROSE], 280).save(tmp_path)
    source = TextFiles(DataConfig(path=(str(text),)))
    with (
        pytest.raises(ChildProcessError, match="ended with status -9, perhaps for lack of memory"),
        worker_pool(1, tmp_path, np.dtype("<u2")) as workers,
    ):
        for _ in workers.encode(source.jobs(0)):
            workers.processes[0].kill()
            workers.processes[0].wait()


def test_a_worker_that_fails_at_a_job_names_its_place(tmp_path: Path) -> None:
    assert reason_of_end(-9, text_job(book(tmp_path / "text", 1, 900) / "000.txt", 0, 5)) == (
        "a process that encodes has ended with status -9, perhaps for lack of memory; the same "
        "command goes on, with fewer --workers if need be"
    )
    job = LinesJob(path="a.jsonl", start=3, stop=9, field="text", validation_share=0.1)
    assert "with status 1 at bytes 3 to 9 of a.jsonl, for the reason above" in reason_of_end(1, job)


# What is refused


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--out", "o"], "prepare reads --data.path or --dataset, or does --check; name one"),
        (["--data.path", "a.txt"], "--out names the folder to make; give it a name"),
        (["--data.path", "a.txt", "--out", "a.txt"], "--out a.txt exists; name another folder"),
        (["--data.path", "no.txt", "--out", "o"], "no.txt does not exist"),
        (["--data.path", "a.txt", "b.jsonl", "--out", "o"], "names files of several kinds"),
        (["--data.path", "a.txt", "--workers", "0", "--out", "o"], "--workers 0 must be 1 or"),
        (["--data.path", "a.txt", "--shard-tokens", "9", "--out", "o"], "--shard-tokens 9 must"),
        (["--data.path", "a.txt", "--data.tokenizer", "char", "--out", "o"], "char is for small"),
        (["--data.path", "a.txt", "--data.vocab-size", "9", "--out", "o"], "must be at least 257"),
        (["--data.path", "a.txt", "--subset", "x", "--out", "o"], "--subset x is for --dataset"),
        (["--data.path", "cp1251.txt", "--out", "o"], "cp1251.txt is not UTF-8 text: byte 0xcb"),
        (["--data.path", "bad.jsonl", "--out", "o"], "the line at byte 16 of"),
        (["--data.path", "b.jsonl", "--text-field", "body", "--out", "o"], "has no text in 'body'"),
        (["--data.path", "null.jsonl", "--out", "o"], "null.jsonl has null in 'text' where a"),
        (["--data.path", "deep.jsonl", "--out", "o"], "deep.jsonl is not JSON: nested more"),
        (["--data.path", "array.json", "--out", "o"], "is one array of JSON and no plain text"),
        (["--data.path", "a*.txt", "array.json", "--out", "o"], "is one array of JSON"),
        (["--data.path", "b.gz", "--out", "o"], "b.gz is a gzip file and no plain text"),
        (["--data.path", "lone.jsonl", "--out", "o"], "a surrogate and no character"),
        (["--data.path", "one.jsonl", "--out", "o"], "the validation split is empty; give more"),
        (["--check", "."], "index.json does not exist; name a folder that main.py prepare wrote"),
    ],
)
def test_what_cannot_be_prepared_is_refused_in_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text(PROSE * 9, encoding="utf-8")
    Path("b.jsonl").write_text('{"text": "some text"}\n' * 9, encoding="utf-8")
    Path("bad.jsonl").write_text('{"text": "some"}\n{"text": "so'.replace("some", "a b"))
    Path("null.jsonl").write_text('{"text": "some text"}\n' * 9 + '{"text": null}\n')
    Path("deep.jsonl").write_text('{"text": "some text"}\n' * 9 + "[" * 100_000)
    Path("array.json").write_text(json.dumps([{"text": "some text"}] * 9, indent=1))
    Path("b.gz").write_bytes(b"\x1f\x8b\x08")
    Path("one.jsonl").write_text('{"text": "some text"}')
    Path("lone.jsonl").write_text('{"text": "\\ud800"}\n' * 9)
    Path("cp1251.txt").write_bytes(b"tree " * 90 + "Лиса".encode("cp1251") + b" ok" * 90)
    assert prepare(*arguments, *(["--workers", "1"] if "--workers" not in arguments else [])) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1
    assert sentence in said
    assert not Path("o").exists()


def test_without_the_package_datasets_it_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert prepare("--dataset", "owner/name", "--out", tmp_path / "o") == 2
    assert "is read by the package datasets, which is not installed" in capsys.readouterr().err


# On and on: what takes minutes


def killed_after(arguments: list[str], seconds: float) -> int:
    """Runs prepare and kills it after a while -> its status, 0 where it was faster."""
    process = subprocess.Popen([sys.executable, "main.py", "prepare", *arguments], cwd=ROOT)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        return process.wait()


def check_random_folders(kind: str, n_folders: int, folder: Path) -> None:
    """Reads random folders as `prepare` does, through its jobs, and compares their splits."""
    draw = random.Random(20)
    n_far = 0
    for number in range(n_folders):
        share = draw.choice([None, 0.1, 0.01, 0.3, draw.uniform(0.001, 0.9)])
        texts = write_texts(folder / str(number), small_folder(draw, 25_000))
        path = folder / str(number)
        if kind == "JSONL":
            path = path / "all.jsonl"
            path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        data = DataFlags(path=(str(path),), validation_share=share)
        source = prepare_command.open_source(PrepareCommand(out=folder / "out", data=data))
        documents: dict[str, list[str]] = {split: [] for split in SPLITS}
        for _, job in source.jobs(0):
            for passage in job.passages():
                if passage.begins_document:
                    documents[passage.split].append("")
                documents[passage.split][-1] += passage.text
        shutil.rmtree(folder / str(number))
        rests = rests_of(texts, documents["train"])
        assert documents["validation"] == [rest for rest in rests if rest]
        n_bytes = {split: len("".join(documents[split]).encode()) for split in SPLITS}
        far = is_far_from(source.share, n_bytes)
        n_far += far
        assert bool(note_on_share(source.share, n_bytes)) >= far
        if kind == "text" and far:
            assert is_tiny([len(text.encode()) for text in texts], source.share)
    assert kind == "JSONL" or n_far < n_folders / 2  # lines are drawn one by one, by a hash


@pytest.mark.parametrize("kind", ["text", "JSONL"])
def test_of_random_folders_the_share_is_kept_or_a_sentence_says_why(
    kind: str, tmp_path: Path
) -> None:
    check_random_folders(kind, 15, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["text", "JSONL"])
def test_of_a_thousand_random_folders_the_share_is_kept(kind: str, tmp_path: Path) -> None:
    check_random_folders(kind, 1_000, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="has no SIGKILL")
def test_killed_at_random_moments_it_writes_identical_shards(tmp_path: Path) -> None:
    text = book(tmp_path / "text", 5, 8_000_000)
    common = [
        "--data.path",
        str(text),
        "--data.vocab-size",
        "512",
        "--workers",
        "2",
        "--shard-tokens",
        "1000000",
        "--out",
    ]
    started = time.monotonic()
    assert killed_after([*common, str(tmp_path / "whole")], 600) == 0
    longest = time.monotonic() - started
    draw, kills = random.Random(1), 0
    while kills < 10:
        stopped = tmp_path / "stopped"
        while not stopped.exists():
            assert kills < 60
            kills += killed_after([*common, str(stopped)], draw.uniform(0.5, longest)) != 0
        assert bytes_of(stopped) == bytes_of(tmp_path / "whole")
        for file in stopped.iterdir():
            file.unlink()
        stopped.rmdir()


N_FILES, FILE_BYTES = 40, 25_000_000


def gigabyte(folder: Path) -> Path:
    """Both corpora again and again, their paragraphs shuffled anew in each file."""
    folder.mkdir()
    texts = [file.read_text(encoding="utf-8-sig") for file in sorted(CORPORA.glob("*.txt"))]
    paragraphs = [(part + "\n\n").encode() for text in texts for part in text.split("\n\n")]
    draw = random.Random(3)
    for number in range(N_FILES):
        with (folder / f"{number:02d}.txt").open("wb") as file:
            while file.tell() < FILE_BYTES:
                draw.shuffle(paragraphs)
                file.writelines(paragraphs)
    return folder


def resident(pid: int) -> int:
    """Bytes of a process and its children; what they share counts once. 0: it has ended."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        children = "".join(f.read_text() for f in Path(f"/proc/{pid}/task").glob("*/children"))
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, flags=re.MULTILINE)
    own = 1024 * int(found[1]) if found else 0
    return own + sum(resident(int(child)) for child in children.split())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the memory")
@pytest.mark.skipif(not CORPORA.exists(), reason="the corpora lie outside the repository")
def test_a_gigabyte_takes_less_than_one_of_memory_and_survives_kills(tmp_path: Path) -> None:
    text = gigabyte(tmp_path / "text")
    size = sum(file.stat().st_size for file in text.iterdir())
    common = [
        "--data.path",
        str(text),
        "--data.tokenizer",
        str(CORPORA.parent / "gpt2_vocab"),
        "--shard-tokens",
        "50000000",
        "--out",
    ]
    command = [sys.executable, "main.py", "prepare", *common, str(tmp_path / "whole")]
    started, most = time.monotonic(), 0
    with subprocess.Popen(command, cwd=ROOT) as process:
        while process.poll() is None:
            most = max(most, resident(process.pid))
            time.sleep(0.1)
    seconds, n_cores = time.monotonic() - started, os.cpu_count() or 1
    print(
        f"\n{size / 1e6:.0f} MB in {seconds:.1f} s: {size / 1e6 / seconds / n_cores:.1f} MB/s a "
        f"core with {n_cores}; at most {most / 1e6:.0f} MB of memory"
    )
    assert process.returncode == 0
    assert size > 10**9 > most > 10**8
    draw, kills, stopped = random.Random(4), 0, tmp_path / "stopped"
    while not stopped.exists():
        longest = seconds / 2 if kills < 5 else 2 * seconds
        kills += killed_after([*common, str(stopped)], draw.uniform(0.5, longest)) != 0
        assert kills < 30
    assert kills >= 3
    names = [file.name for file in sorted(stopped.iterdir())]
    assert names == [file.name for file in sorted((tmp_path / "whole").iterdir())]
    assert all(filecmp.cmp(stopped / n, tmp_path / "whole" / n, shallow=False) for n in names)
    assert prepare("--check", stopped) == 0
    shutil.rmtree(tmp_path)  # two and a half gigabytes


@pytest.mark.slow
@pytest.mark.skipif(not CORPORA.exists(), reason="the corpora lie outside the repository")
@pytest.mark.parametrize("name", ["tinyshakespeare.txt", "dead_souls_ru.txt"])
def test_a_book_with_the_vocabulary_of_gpt2_has_the_tokens_of_tiktoken(name: str) -> None:
    """tiktoken, built from the same vocabulary, is an encoder that others wrote."""
    tiktoken = pytest.importorskip("tiktoken")
    vocabulary = ROOT.parent / "shared" / "gpt2_vocab"
    tokenizer = Tokenizer.from_gpt2(vocabulary)
    ranks = {tokenizer.token_bytes(id): id for id in range(50256)}
    pattern = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    theirs = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
    job = text_job(CORPORA / name, 0, (CORPORA / name).stat().st_size)
    words = WordCache(tokenizer, np.dtype("<u2"))
    ours = np.frombuffer(encode(job, words)["train"][1], "<u2").tolist()
    text = (CORPORA / name).read_text(encoding="utf-8-sig")
    assert ours == [50256, *theirs.encode_ordinary(text)]


def test_the_kinds_of_jobs_go_through_json(tmp_path: Path) -> None:
    every = [
        TextJob(split="train", path="a\udcff", start=0, stop=9, document_start=0, document_stop=9),
        LinesJob(path="a", start=0, stop=9, field="text", validation_share=0.1),
        RowsJob(texts=["ё"], first=3, validation_share=0.1),
    ]
    assert [jobs.job_of_json(jobs.job_to_json(job)) for job in every] == every
    assert text_files.CHUNK_BYTES == jobs.CHUNK_BYTES
    assert JsonLines([str(tmp_path_file(tmp_path))], "text", None).share == 0.1


def tmp_path_file(folder: Path) -> Path:
    lines(folder / "few.jsonl", 3)
    return folder / "few.jsonl"
