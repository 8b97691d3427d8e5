"""Shards as training sees them: one stream, every window once, and nothing that does not belong."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cfg_gpt2 import DataConfig
from data.shards import Index, Shard, check_shards, ends_sha256, index_text
from data.stream import Stream
from data.windows import MixedWindows
from load_data import Corpus, load_corpus
from loss import IGNORE_INDEX
from run_directory.files import sha256
from tokenizer import Tokenizer

PROSE = "The fox asked where the drum was. It's in the barn, the hen said. " * 20


def make_shards(folder: Path, seed: int = 0, sizes: tuple[int, ...] = (3000, 2000)) -> Path:
    """A folder such as prepare writes, of random tokens."""
    folder.mkdir(parents=True)
    Tokenizer.train([PROSE], 300).save(folder)
    tokens = np.random.default_rng(seed)
    shards: dict[str, list[Shard]] = {"train": [], "validation": []}
    for split, counts in (("train", sizes), ("validation", (500,))):
        for number, count in enumerate(counts):
            file = folder / f"{split}-{number:05d}.bin"
            tokens.integers(0, 290, size=count).astype("<u2").tofile(file)
            shards[split].append(
                Shard(
                    file=file.name,
                    tokens=count,
                    documents=1,
                    bytes=2 * count,
                    sha256=sha256(file),
                    ends_sha256=ends_sha256(file),
                )
            )
    index = Index(
        dtype="uint16",
        tokenizer_sha256=sha256(folder / "tokenizer.json"),
        sources=["a test"],
        train=shards["train"],
        validation=shards["validation"],
    )
    (folder / "index.json").write_text(index_text(index), encoding="utf-8")
    return folder


def load(*paths: Path, **other) -> Corpus:
    return load_corpus(DataConfig(path=tuple(map(str, paths)), **other))


def whole(*folders: Path) -> np.ndarray:
    files = [file for folder in folders for file in sorted(folder.glob("train-*.bin"))]
    return np.concatenate([np.fromfile(file, "<u2") for file in files])


# One stream


def test_training_reads_the_shards_as_one_text(tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "shards")
    corpus = load(folder)
    assert corpus.train.tokens[:].tolist() == whole(folder).tolist()
    assert (corpus.train.n_bytes, corpus.validation.n_bytes) == (10_000, 1000)
    assert corpus.tokenizer.decode([corpus.tokenizer.end_of_text]) == "<|endoftext|>"
    assert isinstance(corpus.train.tokens, Stream)
    assert all(isinstance(part, np.memmap) for part in corpus.train.tokens.parts)


def test_several_folders_are_one_text_with_one_boundary_between(tmp_path: Path) -> None:
    a, b = make_shards(tmp_path / "a"), make_shards(tmp_path / "b", seed=1)
    tokens = load(a, b).train.tokens
    assert tokens[:].tolist() == [*whole(a).tolist(), *whole(b).tolist()[1:]]


# Several sources


def test_a_mix_of_shards_draws_each_by_its_weight_and_every_window_once(tmp_path: Path) -> None:
    a, b = make_shards(tmp_path / "a"), make_shards(tmp_path / "b", seed=1, sizes=(900, 101))
    corpus = load(a, b, mix=(0.75, 0.25))
    windows = corpus.windows(10, seed=1)
    assert isinstance(windows.order, MixedWindows)
    of_a, of_b = ([order.window(n) for n in range(100)] for order in windows.order.orders)
    assert of_a[0].stream[:].tolist() == whole(a).tolist()
    expected = [whole(a)[-1], *whole(b)[1:]]  # the boundary belongs to both
    assert of_b[0].stream[:].tolist() == expected
    tokens, targets = windows.batch(0, 400)
    rows_of_b = {tuple(stream[start : start + n + 1].tolist()) for stream, start, n in of_b}
    rows = torch.cat([tokens, targets[:, -1:]], dim=1).tolist()
    drawn = [row for row in map(tuple, rows) if row in rows_of_b]
    assert len(drawn) == len(set(drawn)) == 100
    assert windows.epochs(400) == pytest.approx([300 / 499, 1.0])


def test_a_mix_of_texts_reads_each_as_it_reads_it_alone(tmp_path: Path) -> None:
    for name, text in (("a", PROSE), ("b", PROSE.upper() * 3)):
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    corpus = load(*paths, cache_dir=str(tmp_path / "cache"), mix=(1, 1))
    order = corpus.windows(16, seed=1)
    for k in range(2):
        text = "".join(
            corpus.tokenizer.decode(order.batch(number, 1)[1][0].clamp(min=0).tolist())
            for number in range(k, 20, 2)
        ).replace("<|endoftext|>", "")
        assert text.isupper() == bool(k)
    assert all((order.batch(n, 1)[1] != IGNORE_INDEX).any() for n in range(40))


# What does not belong together


def broken(folder: Path, how: str) -> Path:
    first, last = folder / "train-00000.bin", folder / "train-00001.bin"
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    if how == "missing":
        last.unlink()
    if how == "short":
        last.write_bytes(last.read_bytes()[:-2])
    if how == "of another":
        other = make_shards(folder.parent / "other", seed=9)
        shutil.copy(other / first.name, first)
    if how == "swapped":
        index["train"][0]["file"], index["train"][1]["file"] = last.name, first.name
        for a, b in (("tokens", 0), ("bytes", 0)):
            index["train"][b][a], index["train"][1][a] = index["train"][1][a], index["train"][b][a]
    if how == "another tokenizer":
        Tokenizer.train([PROSE * 2, "quick brown"], 290).save(folder)
    if how == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    if how == "half an index":
        del index["train"][0]["tokens"]
    if how == "no validation":
        index["validation"] = []
    values = {
        "no bytes": {"bytes": 0},
        "negative bytes": {"bytes": -100},
        "more tokens than bytes": {"bytes": 2_000},
        "bytes without end": {"bytes": 10**18},
        "negative documents": {"documents": -1},
        "a file outside": {"file": "../other/train-00000.bin"},
        "a file of the system": {"file": "/etc/passwd"},
        "tokens without end": {"tokens": 10**18, "bytes": 10**18},
        "half a token": {"tokens": 2.5},
    }
    index["train"][0].update(values.get(how, {}))
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("missing", r"train-00001.bin is missing; copy it to the others, or prepare it again"),
        ("short", r"train-00001.bin has 3,998 bytes, but index.json says 4,000; copy it again"),
        ("of another", r"train-00000.bin does not belong to .*index.json: it comes from another"),
        ("swapped", r"train-00001.bin does not belong to"),
        ("another tokenizer", r"tokenizer.json is not the tokenizer that .* was prepared with"),
        ("no tokenizer", r"tokenizer.json is missing"),
        ("half an index", r"index.json cannot be used: train.0.tokens: Field required"),
        ("no validation", r"has no validation shard"),
        ("no bytes", r"cannot be used: train.0: train-00000.bin is said to have 3000 tokens of 1"),
        ("negative bytes", r"documents and -100 bytes, which cannot be; prepare it again"),
        ("more tokens than bytes", r"1 documents and 2000 bytes, which cannot be"),
        ("bytes without end", r"the 5000 tokens of the train text are 1000000000000004000 bytes"),
        ("negative documents", r"3000 tokens of -1 documents"),
        ("a file outside", r"../other/train-00000.bin is no name of a file in the same folder"),
        ("a file of the system", r"/etc/passwd is no name of a file in the same folder"),
        ("tokens without end", r"train-00000.bin has 6,000 bytes, but index.json says 2,000,000,"),
        ("half a token", r"cannot be used: train.0.tokens: Input should be a valid integer"),
    ],
)
def test_shards_that_do_not_belong_together_are_refused(
    how: str, sentence: str, tmp_path: Path
) -> None:
    folder = broken(make_shards(tmp_path / "shards"), how)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_folders_with_different_tokenizers_are_refused(tmp_path: Path) -> None:
    a, b = make_shards(tmp_path / "a"), make_shards(tmp_path / "b")
    Tokenizer.train([PROSE, "something else"], 290).save(b)
    index = json.loads((b / "index.json").read_text(encoding="utf-8"))
    index["tokenizer_sha256"] = sha256(b / "tokenizer.json")
    (b / "index.json").write_text(json.dumps(index), encoding="utf-8")
    load(b)
    with pytest.raises(ValueError, match=r"b has another tokenizer than .*a; prepare it with"):
        load(a, b)


@pytest.mark.parametrize(
    "other", [{"tokenizer": "char"}, {"vocab_size": 300}, {"validation_share": 0.5}]
)
def test_what_is_chosen_already_cannot_be_chosen_again(other: dict, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"shards is prepared: its tokenizer and .*--data.mix"):
        load(make_shards(tmp_path / "shards"), **other)


def test_text_and_shards_are_not_mixed_silently(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(PROSE, encoding="utf-8")
    with pytest.raises(ValueError, match=r"a.txt is not prepared and .*shards is"):
        load(make_shards(tmp_path / "shards"), tmp_path / "a.txt")


def test_a_flipped_bit_in_the_middle_is_found_by_the_check(tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "shards", sizes=(20_000,))
    check_shards(folder, lambda done, total, what: None)
    file = folder / "train-00000.bin"
    data = bytearray(file.read_bytes())
    data[20_001] ^= 1
    file.write_bytes(data)
    load(folder)  # opening looks at the ends only
    with pytest.raises(ValueError, match=r"train-00000.bin is damaged: its SHA-256"):
        check_shards(folder, lambda done, total, what: None)


def test_an_id_that_the_tokenizer_does_not_have_is_named(tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "shards", sizes=(20_000,))
    file = folder / "train-00000.bin"
    data = bytearray(file.read_bytes())
    data[20_000:20_002] = b"\xff\xff"
    file.write_bytes(data)
    windows = load(folder).windows(16, seed=1)
    with pytest.raises(ValueError, match=r"token id 65535, and its tokenizer \d+ ids: it is dam"):
        windows.batch(0, 1250)


@pytest.mark.parametrize(
    ("mix", "sentence"),
    [((1.0,), r"has 1 weights, --data.path 2 paths"), ((1.0, -1.0), r"must be numbers above 0")],
)
def test_a_wrong_mix_is_refused(mix: tuple[float, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        replace(DataConfig(path=("a", "b")), mix=mix)


def test_a_mix_needs_a_text_for_each_path(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(PROSE, encoding="utf-8")
    with pytest.raises(ValueError, match=r"all files of .* are in the paths before it"):
        load(tmp_path, tmp_path / "a.txt", mix=(1, 1), cache_dir=str(tmp_path / "cache"))


def test_the_index_says_what_it_holds(tmp_path: Path) -> None:
    folder = make_shards(tmp_path / "shards")
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    assert set(index) == set(
        asdict(Index(dtype="uint16", tokenizer_sha256="", sources=[], train=[], validation=[]))
    )
