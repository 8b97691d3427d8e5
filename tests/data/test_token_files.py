"""Token files: what the tokenizer learns from, what is written, and when it is written again."""

import errno
import json
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from oracles.corpora import PROSE, documents, load_in_chunks, write

import load_data
from cfg_gpt2 import DataConfig
from data.sources import TextFileSource
from data.token_files import cache_key
from load_data import Corpus, load_corpus
from run_directory.lock import only_writer_of
from tokenizer import Tokenizer

SettingsOf = Callable[..., DataConfig]


# Tokens


def test_a_vocabulary_beyond_65536_takes_32_bits(settings_of: SettingsOf, tmp_path: Path) -> None:
    letters = "".join(map(chr, range(0x20000, 0x20000 + 66_000)))
    Tokenizer.characters([PROSE, letters]).save(tmp_path)
    book = write(tmp_path / "book.txt", PROSE + letters[-1] * 5)
    corpus = load_corpus(settings_of(book, tokenizer=str(tmp_path)))
    assert corpus.train.tokens[:].dtype == np.uint32
    assert max(corpus.validation.tokens[:].tolist()) > 65_536
    assert documents(corpus, corpus.validation)[0].endswith(letters[-1])


def test_characters_of_the_validation_part_belong_to_the_alphabet(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    book = write(tmp_path / "book.txt", "a" * 90 + "я" * 5)
    assert load_corpus(settings_of(book, tokenizer="char")).tokenizer.vocab_size == 3


def test_bpe_learns_from_the_training_part_only(settings_of: SettingsOf, tmp_path: Path) -> None:
    book = write(tmp_path / "book.txt", "ab" * 90 + "xy" * 10)
    tokenizer = load_corpus(settings_of(book, vocab_size=300)).tokenizer
    learned = [tokenizer.decode([id]) for id in range(257, tokenizer.vocab_size)]
    assert "ab" in learned and "xy" not in learned


def test_an_unseen_character_is_found_in_its_file(settings_of: SettingsOf, tmp_path: Path) -> None:
    Tokenizer.characters([PROSE]).save(tmp_path)
    book = write(tmp_path / "book.txt", PROSE[:500] + "ё" + PROSE)
    sentence = r"U\+0451\) at position 500 of the train text of .*book.txt is not among"
    with pytest.raises(ValueError, match=sentence):
        load_in_chunks(settings_of(book, tokenizer=str(tmp_path)), chunk_bytes=50)


# The cache


def test_a_second_run_maps_the_files_of_the_first(
    settings_of: SettingsOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings_of(write(tmp_path / "book.txt", PROSE))
    first = load_corpus(config)
    monkeypatch.setattr(load_data, "make_token_files", None)
    second = load_corpus(config)
    assert isinstance(second.train.tokens, np.memmap)
    assert second.train.tokens.tolist() == first.train.tokens[:].tolist()
    assert second.tokenizer.encode(PROSE) == first.tokenizer.encode(PROSE)


def test_another_text_or_setting_makes_other_files(settings_of: SettingsOf, tmp_path: Path) -> None:
    book = write(tmp_path / "book.txt", PROSE)
    load_corpus(settings_of(book))
    load_corpus(settings_of(book, vocab_size=300))
    load_corpus(settings_of(book, validation_share=0.2))
    load_corpus(settings_of(book, tokenizer="char"))
    write(book, PROSE + PROSE)
    corpus = load_corpus(settings_of(book))
    assert corpus.train.n_bytes + corpus.validation.n_bytes == 2 * len(PROSE)
    assert len(list((tmp_path / "cache").iterdir())) == 5


def test_token_files_of_earlier_versions_are_found_again(tmp_path: Path) -> None:
    """The key that every version so far gives this text; another would leave caches unused."""
    file = write(tmp_path / "book.txt", PROSE)
    config = DataConfig(path=(str(file),), tokenizer="char")
    source = TextFileSource(config)
    source.identity = [0.1, ["/texts/book.txt", 936, 1764000000000000000]]
    assert cache_key(config, source) == "8b0da5bc26e84d59"


def test_a_changed_vocabulary_makes_other_files(settings_of: SettingsOf, tmp_path: Path) -> None:
    config = settings_of(
        write(tmp_path / "book.txt", PROSE), tokenizer=str(tmp_path / "vocabulary")
    )
    Tokenizer.characters([PROSE]).save(tmp_path / "vocabulary")
    load_corpus(config)
    Tokenizer.train([PROSE], 280).save(tmp_path / "vocabulary")
    assert load_corpus(config).tokenizer.vocab_size == 280


def test_a_full_disk_names_the_folder_and_leaves_nothing_behind(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource")  # a limit on file sizes acts as a full disk
    book = write(tmp_path / "book.txt", "".join(f"{number} " for number in range(100_000)))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
    try:
        with pytest.raises(OSError, match=f"{tmp_path / 'cache'}") as caught:
            load_corpus(settings_of(book, tokenizer="char"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_interrupted_run_leaves_nothing_behind(settings_of: SettingsOf, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, what: str) -> None:
        if what.startswith("tokenizing the validation"):
            raise KeyboardInterrupt

    config = settings_of(write(tmp_path / "book.txt", PROSE))
    with pytest.raises(KeyboardInterrupt):
        load_corpus(config, interrupt)
    assert list((tmp_path / "cache").iterdir()) == []
    corpus = load_corpus(config)
    assert "".join(documents(corpus, corpus.train)) == PROSE[: int(len(PROSE) * 0.9)]


def test_two_runs_at_the_same_time_do_not_disturb_each_other(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    config = settings_of(write(tmp_path / "book.txt", PROSE))
    inner: list[Future[Corpus]] = []
    with ThreadPoolExecutor() as threads:

        def begin_another_run(done: int, total: int, what: str) -> None:
            if what.startswith("tokenizing the validation") and not inner:
                inner.append(threads.submit(load_corpus, config))

        outer = load_corpus(config, begin_another_run)
        assert outer.train.tokens[:].tolist() == inner[0].result().train.tokens[:].tolist()
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_the_report_goes_from_nothing_to_all_in_each_stage(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    reports: list[tuple[int, int, str]] = []
    config = settings_of(write(tmp_path / "book.txt", PROSE))
    load_in_chunks(
        config, lambda *report: reports.append(report), chunk_bytes=64, batch_characters=200
    )
    stages = list(dict.fromkeys(what for _, _, what in reports))
    assert stages == [
        "training the tokenizer",
        "tokenizing the train text",
        "tokenizing the validation text",
    ]
    for stage in stages:
        done = [(done, total) for done, total, what in reports if what == stage]
        assert done[0][0] == 0 and done[-1][0] == done[-1][1]
        assert done == sorted(done)
    assert len(reports) > 6


def test_the_meta_file_says_what_the_tokens_were_made_from(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    book = write(tmp_path / "book.txt", PROSE)
    load_corpus(settings_of(book))
    [folder] = (tmp_path / "cache").iterdir()
    assert re.fullmatch("[0-9a-f]{16}", folder.name)
    names = {file.name for file in folder.iterdir()}
    assert names == {"train.bin", "validation.bin", "tokenizer.json", "meta.json"}
    assert str(book) in json.dumps(json.loads((folder / "meta.json").read_text())["source"])


def test_what_killed_processes_left_is_removed(settings_of: SettingsOf, tmp_path: Path) -> None:
    book = write(tmp_path / "book.txt", PROSE)
    settings = settings_of(book)
    key = cache_key(settings, TextFileSource(settings))
    cache = Path(settings.cache_dir)
    left = [cache / f".{name}-xyz" for name in (key, "0" * 16, "1" * 16)]
    for folder in [*left, cache / ".other-tool"]:
        (folder / key).mkdir(parents=True)
    with only_writer_of(cache / ("1" * 16), "", print):  # this one is being made
        load_corpus(settings)
        assert [folder.exists() for folder in left] == [False, False, True]
    assert sorted(path.name for path in cache.iterdir()) == [left[2].name, ".other-tool", key]


def test_of_two_processes_one_makes_the_tokens_and_the_other_waits(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    settings = settings_of(write(tmp_path / "book.txt", PROSE))
    folder = Path(settings.cache_dir) / cache_key(settings, TextFileSource(settings))
    said: list[str] = []
    lock = ExitStack()
    lock.enter_context(only_writer_of(folder, "", print))

    def report(done: int, total: int, what: str) -> None:
        said.append(what)
        lock.close()

    load_corpus(settings, report)
    assert re.fullmatch(r"waiting for process \d+ on .*, which makes the same tokens", said[0])
