"""Shards as training sees them: one stream, every window once, and nothing that does not belong."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import load_data
from cfg_gpt2 import DataConfig
from data.shards import Index, Shard, Stream, check_shards, ends_sha256, index_text, sha256
from load_data import FullWindows, MixedWindows, load_corpus
from loss import IGNORE_INDEX
from tokenizer import Tokenizer

patient = settings(deadline=None)  # the machine may be busy
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
            tokens.integers(0, 300, size=count).astype("<u2").tofile(file)
            shards[split].append(
                Shard(
                    file=file.name, tokens=count, documents=1, bytes=2 * count,
                    sha256=sha256(file), ends_sha256=ends_sha256(file),
                )
            )  # fmt: skip
    index = Index(
        dtype="uint16", tokenizer_sha256=sha256(folder / "tokenizer.json"), sources=["a test"],
        **shards,
    )  # fmt: skip
    (folder / "index.json").write_text(index_text(index), encoding="utf-8")
    return folder


def load(*paths: Path, **other) -> load_data.Corpus:
    return load_corpus(DataConfig(path=tuple(map(str, paths)), **other))


def whole(*folders: Path) -> np.ndarray:
    files = [file for folder in folders for file in sorted(folder.glob("train-*.bin"))]
    return np.concatenate([np.fromfile(file, "<u2") for file in files])


# One stream


@patient
@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 60), st.integers(0, 60))
def test_a_stream_is_its_parts_end_to_end(lengths, start, stop):
    numbers = np.arange(sum(lengths))
    stream = Stream(np.split(numbers, np.cumsum(lengths)[:-1]))
    assert len(stream) == len(numbers)
    assert stream[start:stop].tolist() == numbers[start:stop].tolist()
    if numbers[start:stop].size:
        part = stream.part(start, min(stop, len(numbers)))
        assert part[:].tolist() == numbers[start:stop].tolist()


def test_training_reads_the_shards_as_one_text(tmp_path):
    folder = make_shards(tmp_path / "shards")
    corpus = load(folder)
    assert corpus.train.tokens[:].tolist() == whole(folder).tolist()
    assert (corpus.train.n_bytes, corpus.validation.n_bytes) == (10_000, 1000)
    assert corpus.tokenizer.decode([corpus.tokenizer.end_of_text]) == "<|endoftext|>"
    assert isinstance(corpus.train.tokens, Stream)
    assert all(isinstance(part, np.memmap) for part in corpus.train.tokens.parts)


def test_several_folders_are_one_text_with_one_border_between(tmp_path):
    a, b = make_shards(tmp_path / "a"), make_shards(tmp_path / "b", seed=1)
    tokens = load(a, b).train.tokens
    assert tokens[:].tolist() == [*whole(a).tolist(), *whole(b).tolist()[1:]]


# Every window once


streams = st.tuples(st.integers(1, 9), st.integers(0, 60)).map(lambda two: (two[0], sum(two) + 1))


@patient
@given(streams, st.integers(0, 2**40), st.integers(0, 3), st.integers(1, 5), st.integers(1, 7))
def test_all_ranks_together_read_every_window_of_an_epoch_once(
    size, seed, epoch, n_ranks, batch_size
):
    context_length, n_tokens = size
    tokens = np.arange(n_tokens, dtype=np.uint16)
    orders = [FullWindows(tokens, context_length, seed) for _ in range(n_ranks)]
    n_windows = (n_tokens - 1) // context_length
    read = []
    for first in range(0, (epoch + 1) * n_windows, batch_size):
        for rank, order in enumerate(orders):
            own = range(first + rank, first + batch_size, n_ranks)
            if own:
                x, y = order.batch(own[0], len(own), step=n_ranks)
                assert torch.equal(y, x + 1) and x.shape == (len(own), context_length)
                read += zip(own, x[:, 0].tolist(), strict=True)
    in_order = [start for _, start in sorted(read)]
    starts = sorted(in_order[epoch * n_windows : (epoch + 1) * n_windows])
    assert np.diff(starts).tolist() == [context_length] * (n_windows - 1)
    assert starts[0] + n_windows * context_length <= n_tokens - 1


def test_a_window_is_the_same_whoever_asks_and_whenever():
    order, other = (FullWindows(np.arange(1000), 7, seed=3) for _ in range(2))
    in_turn = [order.stretch(number).tolist() for number in range(400)]
    assert in_turn == [other.stretch(number).tolist() for number in reversed(range(400))][::-1]
    first, second = ([window[0] for window in in_turn[n : n + 142]] for n in (0, 142))
    assert first != sorted(first) and sorted(first) != sorted(second)  # in order, and in phase


def test_ranks_of_a_small_text_read_what_one_process_reads(tmp_path):
    (tmp_path / "a.txt").write_text(PROSE, encoding="utf-8")
    corpus = load(tmp_path / "a.txt", cache_dir=str(tmp_path / "cache"))
    order = corpus.windows(16, 1)
    tokens, _ = order.batch(3, 8)
    halves = [order.batch(3 + rank, 4, step=2)[0] for rank in range(2)]
    assert torch.equal(tokens[0::2], halves[0]) and torch.equal(tokens[1::2], halves[1])


# Several sources


def test_a_mix_of_shards_draws_each_by_its_weight_and_every_window_once(tmp_path):
    a, b = make_shards(tmp_path / "a"), make_shards(tmp_path / "b", seed=1, sizes=(900, 101))
    corpus = load(a, b, mix=(0.75, 0.25))
    order = corpus.windows(10, seed=1)
    assert isinstance(order, MixedWindows)
    theirs = [corpus.windows(10, seed=1).orders[k] for k in range(2)]  # type: ignore[attr-defined]
    assert theirs[0].tokens[:].tolist() == whole(a).tolist()
    expected = [whole(a)[-1], *whole(b)[1:]]  # the border belongs to both
    assert theirs[1].tokens[:].tolist() == expected
    tokens, targets = order.batch(0, 400)
    of_b = {tuple(theirs[1].stretch(number)) for number in range(100)}
    rows = torch.cat([tokens, targets[:, -1:]], dim=1).tolist()
    drawn = [row for row in map(tuple, rows) if row in of_b]
    assert len(drawn) == len(set(drawn)) == 100
    assert order.passes(400) == pytest.approx([300 / 499, 1.0])


def test_a_mix_of_texts_reads_each_as_it_reads_it_alone(tmp_path):
    for name, text in (("a", PROSE), ("b", PROSE.upper() * 3)):
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    corpus = load(*paths, cache_dir=str(tmp_path / "cache"), mix=(1, 1))
    order = corpus.windows(16, seed=1)
    for k in range(2):
        text = "".join(
            corpus.tokenizer.decode(order.batch(number, 1)[1][0].clamp(min=0).tolist())
            for number in range(k, 20, 2)
        ).replace("<|endoftext|>", "")  # fmt: skip
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
    ],
)
def test_shards_that_do_not_belong_together_are_refused(how, sentence, tmp_path):
    folder = broken(make_shards(tmp_path / "shards"), how)
    with pytest.raises((ValueError, FileNotFoundError), match=sentence) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_folders_with_different_tokenizers_are_refused(tmp_path):
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
def test_what_is_chosen_already_cannot_be_chosen_again(other, tmp_path):
    with pytest.raises(ValueError, match=r"shards is prepared: its tokenizer and .*--data.mix"):
        load(make_shards(tmp_path / "shards"), **other)


def test_text_and_shards_are_not_mixed_silently(tmp_path):
    (tmp_path / "a.txt").write_text(PROSE, encoding="utf-8")
    with pytest.raises(ValueError, match=r"a.txt is not prepared and .*shards is"):
        load(make_shards(tmp_path / "shards"), tmp_path / "a.txt")


def test_a_flipped_bit_in_the_middle_is_found_by_the_check(tmp_path):
    folder = make_shards(tmp_path / "shards", sizes=(20_000,))
    check_shards(folder, lambda done, total, what: None)
    file = folder / "train-00000.bin"
    data = bytearray(file.read_bytes())
    data[20_001] ^= 1
    file.write_bytes(data)
    load(folder)  # opening looks at the ends only
    with pytest.raises(ValueError, match=r"train-00000.bin is damaged: its SHA-256"):
        check_shards(folder, lambda done, total, what: None)


@pytest.mark.parametrize(
    ("mix", "sentence"),
    [((1.0,), r"has 1 weights, --data.path 2 paths"), ((1.0, -1.0), r"must be numbers above 0")],
)
def test_a_wrong_mix_is_refused(mix, sentence):
    with pytest.raises(ValueError, match=sentence):
        replace(DataConfig(path=("a", "b")), mix=mix)


def test_a_mix_needs_a_text_for_each_path(tmp_path):
    (tmp_path / "a.txt").write_text(PROSE, encoding="utf-8")
    with pytest.raises(ValueError, match=r"all files of .* are in the paths before it"):
        load(tmp_path, tmp_path / "a.txt", mix=(1, 1), cache_dir=str(tmp_path / "cache"))


def test_the_index_says_what_it_holds(tmp_path):
    folder = make_shards(tmp_path / "shards")
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    assert set(index) == set(asdict(Index(dtype="uint16", tokenizer_sha256="", sources=[],
                                          train=[], validation=[])))  # fmt: skip
