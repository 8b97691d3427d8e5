"""Splits: the share kept apart is near the one asked for, whatever the sizes of the files."""

import random
import shutil
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pytest
from oracles.corpora import documents, write
from oracles.random_folders import (
    is_far_from,
    is_tiny,
    random_folder,
    rests_of,
    small_folder,
    write_texts,
)

from cfg_gpt2 import DataConfig
from data import SPLITS, splits
from data.notes import note_on_share
from data.sources import TextFileSource
from data.splits import split_files
from load_data import load_corpus
from tokenizer import Tokenizer

SettingsOf = Callable[..., DataConfig]


def split_of_earlier_versions(files: dict[Path, int], share: float) -> dict[Path, int]:
    """Where the validation part of each file begins, in the versions without `draw_small_files`."""
    if len(files) < 20:
        return {file: int(size * (1 - share)) for file, size in files.items()}
    cuts, missing = dict(files), share * sum(files.values())
    for file in random.Random(0).sample(list(files), len(files) - 1):
        if missing > 0:
            missing -= files[file]
            cuts[file] = 0
    return cuts


def check_folders(n_folders: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "next_character", lambda file, offset: offset)  # ASCII
    draw = random.Random(17)
    n_far = n_kept = 0
    for _ in range(n_folders):
        files, share = random_folder(draw)
        spans = split_files(files, share)
        parts = [(span.path, span.start, span.stop) for split in SPLITS for span in spans[split]]
        assert sum(stop - start for _, start, stop in parts) == sum(files.values())
        assert all(0 <= start < stop <= files[file] for file, start, stop in parts)
        train = {span.path: span.stop for span in spans["train"]}
        assert all(train.get(span.path, 0) == span.start for span in spans["validation"])
        n_bytes = {name: sum(s.stop - s.start for s in spans[name]) for name in SPLITS}
        far = is_far_from(share, n_bytes)
        assert bool(note_on_share(share, n_bytes)) >= far  # a sentence wherever it is far
        if far:
            n_far += 1
            assert is_tiny(files.values(), share)
        earlier = split_of_earlier_versions(files, share)
        n_before = sum(files.values()) - sum(earlier.values())
        if not note_on_share(share, {"validation": n_before, "train": sum(earlier.values())}):
            n_kept += 1
            assert earlier == {file: train.get(file, 0) for file in files}
    assert n_far < n_folders / 10 and n_kept > n_folders / 2


def test_of_random_folders_the_share_is_kept_or_a_sentence_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_folders(300, monkeypatch)


@pytest.mark.slow
def test_of_ten_thousand_random_folders_the_share_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    check_folders(10_000, monkeypatch)


def check_mixes(n_mixes: int, settings_of: SettingsOf, tmp_path: Path) -> None:
    """Loads the corpus of two to four random folders with weights, and compares its documents."""
    Tokenizer.train(["a text for its bytes alone"], 257).save(tmp_path / "bytes")
    draw = random.Random(19)
    n_far = n_refused = 0
    for number in range(n_mixes):
        share = draw.choice([0.1, 0.1, 0.01, 0.3, draw.uniform(0.001, 0.9)])
        paths = [tmp_path / f"{number}/{k}" for k in range(draw.randint(2, 4))]
        sizes = [small_folder(draw, 2_500) for _ in paths]
        texts = [write_texts(path, sizes[k], 500 * k) for k, path in enumerate(paths)]
        mix = tuple(draw.uniform(0.1, 1) for _ in paths)
        config = settings_of(
            *paths, mix=mix, validation_share=share, tokenizer=str(tmp_path / "bytes")
        )
        try:
            corpus = load_corpus(config)
        except ValueError as error:
            assert "too short" in str(error) or "empty" in str(error)
            n_refused += 1
            continue
        finally:
            shutil.rmtree(tmp_path / str(number))
        train = documents(corpus, corpus.train)
        rests = [rests_of(part, train) for part in texts]
        assert documents(corpus, corpus.validation) == [r for part in rests for r in part if r]
        n_bytes = {"train": corpus.train.n_bytes, "validation": corpus.validation.n_bytes}
        assert sum(n_bytes.values()) == sum(len(text.encode()) for part in texts for text in part)
        n_far += is_far_from(share, n_bytes)
        assert bool(corpus.notes) >= is_far_from(share, n_bytes)
        for part, kept in zip(texts, rests, strict=True):
            n_all = [len(text.encode()) for text in part]
            n_kept = len("".join(kept).encode())
            if is_far_from(share, {"train": sum(n_all) - n_kept, "validation": n_kept}):
                assert is_tiny(n_all, share)
        ends = corpus.train.tokens[:] == corpus.tokenizer.end_of_text
        pairs = [zip(*both, strict=True) for both in zip(texts, rests, strict=True)]
        n_train = [sum(text != rest for text, rest in pair) for pair in pairs]
        firsts = accumulate(n_train[:-1], initial=0)
        assert [int(ends[:start].sum()) for start in corpus.train.text_starts] == list(firsts)
    assert n_far < n_mixes / 5 and n_refused < n_mixes / 20


def test_of_random_mixes_each_path_keeps_its_share(settings_of: SettingsOf, tmp_path: Path) -> None:
    check_mixes(6, settings_of, tmp_path)


@pytest.mark.slow
def test_of_many_random_mixes_each_path_keeps_its_share(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    check_mixes(250, settings_of, tmp_path)


@pytest.mark.parametrize("place", [0, 11, 24])
def test_a_novel_among_letters_gives_its_end(
    place: int, settings_of: SettingsOf, tmp_path: Path
) -> None:
    for number in range(25):
        size = 400_000 if number == place else 600
        write(tmp_path / f"texts/{number:02d}.txt", f"{number:02d} word\n" * (size // 8))
    corpus = load_corpus(settings_of(tmp_path / "texts", vocab_size=300))
    share = corpus.validation.n_bytes / (corpus.train.n_bytes + corpus.validation.n_bytes)
    assert 0.1 <= share < 0.11
    assert corpus.notes == ()
    validation = documents(corpus, corpus.validation)
    assert 2 < len(validation) < 6 and sum(len(text) > 600 for text in validation) == 1
    # the split of a mix is near its share in each of its folders
    write(tmp_path / "other/a.txt", "another text\n" * 500)
    config = DataConfig(path=(str(tmp_path / "texts"), str(tmp_path / "other")), mix=(1, 1))
    source = TextFileSource(config)
    assert 0.1 <= source.n_bytes("validation") / sum(map(source.n_bytes, SPLITS)) < 0.11
    assert not {s.path for s in source.spans["validation"] if s.start == 0} & {
        s.path for s in source.spans["train"]
    }


def test_a_large_folder_keeps_ten_megabytes_of_its_giants(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(splits, "next_character", lambda file, offset: offset)
    files = {Path(f"{number}"): 1_000_000_000 for number in range(100)}
    spans = split_files(files, splits.share_or_default(None, sum(files.values())))
    assert 9_000_000 < sum(span.stop - span.start for span in spans["validation"]) < 11_000_000


def test_a_text_that_is_too_small_for_its_share_is_said(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    corpus = load_corpus(settings_of(write(tmp_path / "a.txt", "abc"), tokenizer="char"))
    [note] = corpus.notes
    assert note.startswith("the validation split is 33.33% of the text where 10.00% was asked for")
