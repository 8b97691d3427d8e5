"""Sources of text: the user's files and the built-in worlds, their splits and their samples."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from oracles.corpora import PROSE, documents, write

from cfg_gpt2 import DataConfig
from data.sources import TextFileSource, TinyWorldSource
from data.tiny_world.stories import LANGUAGES
from data.tiny_world.stories import corpus as stories_of
from load_data import load_corpus

SettingsOf = Callable[..., DataConfig]


# Files


def test_validation_is_exactly_the_last_tenth_of_an_ascii_text(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    for n in (10, 99, 921):
        file = write(tmp_path / f"{n}.txt", PROSE[:n])
        corpus = load_corpus(settings_of(file, tokenizer="char"))
        assert documents(corpus, corpus.train) == [PROSE[: int(n * 0.9)]]  # nanoGPT's formula
        assert documents(corpus, corpus.validation) == [PROSE[int(n * 0.9) : n]]


def test_few_files_each_give_their_end_to_validation(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    a, b = write(tmp_path / "a.txt", "a" * 100), write(tmp_path / "b.txt", "b" * 50)
    corpus = load_corpus(settings_of(a, b, tokenizer="char", validation_share=0.2))
    assert documents(corpus, corpus.train) == ["a" * 80, "b" * 40]
    assert documents(corpus, corpus.validation) == ["a" * 20, "b" * 10]


def test_of_many_files_whole_ones_are_kept_for_validation(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    texts = [f"text number {number} {'x' * number}" for number in range(40)]
    for number, text in enumerate(texts):
        write(tmp_path / f"texts/{number}.txt", text)
    corpus = load_corpus(settings_of(tmp_path / "texts", validation_share=0.25))
    train, validation = documents(corpus, corpus.train), documents(corpus, corpus.validation)
    assert sorted(train + validation) == sorted(texts)
    total = corpus.train.n_bytes + corpus.validation.n_bytes
    assert 0.25 <= corpus.validation.n_bytes / total < 0.25 + 60 / total
    assert {texts.index(text) for text in validation} != set(range(30, 40))  # drawn, not the last


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_both_splits_of_many_files_get_at_least_one(
    share: float, settings_of: SettingsOf, tmp_path: Path
) -> None:
    for number in range(20):
        write(tmp_path / f"texts/{number}.txt", f"text {number}")
    corpus = load_corpus(settings_of(tmp_path / "texts", validation_share=share))
    assert min(len(documents(corpus, corpus.train)), len(documents(corpus, corpus.validation))) == 1


def test_repeated_files_are_read_once(tmp_path: Path) -> None:
    for name in ("b1.log", "b2.log"):
        write(tmp_path / name, "some text")
    config = DataConfig(path=(str(tmp_path / "b1.log"), str(tmp_path / "b*.log")))
    names = [span.path.name for span in TextFileSource(config).spans["train"]]
    assert names == ["b1.log", "b2.log"]


def test_the_sample_for_bpe_is_bounded_and_spread_over_the_whole_text(tmp_path: Path) -> None:
    text = "".join(f"word{number} " for number in range(5_000))
    config = DataConfig(path=(str(write(tmp_path / "long.txt", text)),))
    sample = list(TextFileSource(config, chunk_bytes=100, sample_bytes=5_000).sample())
    assert 4_000 < sum(len(chunk.text) for chunk in sample) <= 5_000
    starts = np.array([chunk.start for chunk in sample])
    assert np.abs(starts / len(text) / 0.9 - np.linspace(0, 1, len(starts))).max() < 0.03


@pytest.mark.parametrize(
    ("make", "settings", "kind", "sentence"),
    [
        (lambda d: d / "nothing.txt", {}, FileNotFoundError, "nothing.txt does not exist; name"),
        (lambda d: d / "*.txt", {}, FileNotFoundError, r"\*.txt does not exist"),
        (lambda d: write(d / "in/a.csv", "x").parent, {}, FileNotFoundError, r"has no \*.txt or"),
        (lambda d: write(d / "a.txt", ""), {}, ValueError, "a.txt is empty"),
        (lambda d: write(d / "a.txt", PROSE), {"stories": 500}, ValueError, "stories 500 is for"),
        (lambda d: write(d / "a.txt", "я"), {}, ValueError, "the validation split is empty"),
        (lambda d: write(d / "a.txt", "ab"), {"validation_share": 0.9}, ValueError, "train split"),
        (lambda d: write(d / "a.txt", b"\xef\xbb\xbf"), {}, ValueError, "train split is empty"),
        (lambda d: write(d / "a.txt", PROSE), {"tokenizer": "bep"}, FileNotFoundError, "bep is"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_sentence(
    make: Callable[[Path], Path],
    settings: dict,
    kind: type[Exception],
    sentence: str,
    settings_of: SettingsOf,
    tmp_path: Path,
) -> None:
    with pytest.raises(kind, match=sentence) as caught:
        load_corpus(settings_of(make(tmp_path), **settings))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists() or list((tmp_path / "cache").iterdir()) == []


# The built-in worlds


@pytest.mark.parametrize("name", list(LANGUAGES))
def test_a_world_gives_its_stories_and_its_entropy(name: str, settings_of: SettingsOf) -> None:
    corpus = load_corpus(settings_of(name, stories=200))
    train, validation = stories_of(LANGUAGES[name], 200, 10)
    assert documents(corpus, corpus.train) == [story.text for story in train]
    assert documents(corpus, corpus.validation) == [story.text for story in validation]
    n_bytes = sum(len(story.text.encode()) for story in validation)
    assert corpus.validation.n_bytes == n_bytes
    floor = sum(story.bits for story in validation) / n_bytes
    assert corpus.floor_bits_per_byte == pytest.approx(floor)


def test_the_validation_share_of_a_world_is_obeyed(settings_of: SettingsOf) -> None:
    corpus = load_corpus(settings_of("tiny-world", stories=100, validation_share=0.3))
    assert len(documents(corpus, corpus.train)) == 100
    assert len(documents(corpus, corpus.validation)) == 30


@pytest.mark.parametrize(("stories", "expected"), [(None, 1000), (1000, 50), (100_000, 1000)])
def test_a_world_keeps_a_twentieth_and_at_most_a_thousand_stories(
    stories: int | None, expected: int
) -> None:
    config = DataConfig(path=("tiny-world",), stories=stories)
    assert TinyWorldSource("tiny-world", config).n_validation == expected


def test_a_world_stands_alone_and_wins_over_a_file_of_its_name(
    settings_of: SettingsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "tiny-world", PROSE)
    with pytest.raises(ValueError, match=r"tiny-world stands alone.*./tiny-world"):
        load_corpus(settings_of("tiny-world", "tiny-world-ru"))
    assert load_corpus(settings_of("tiny-world", stories=100)).floor_bits_per_byte is not None
    assert load_corpus(settings_of("./tiny-world")).floor_bits_per_byte is None
