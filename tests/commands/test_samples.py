"""commands/train.py: what the samples of a finished run begin after."""

from pathlib import Path

import pytest

from cfg_gpt2 import DataConfig
from commands.train import MANY_DOCUMENTS, lead_in
from load_data import Corpus, load_corpus

LINES = "Once the cat sat on the mat.\nThen the dog lay on the log.\n"


def corpus_of(folder: Path, texts: list[str], tokenizer: str) -> Corpus:
    for number, text in enumerate(texts):
        (folder / f"{number:03}.txt").write_text(text, encoding="utf-8")
    cache = str(folder / "cache")
    return load_corpus(DataConfig(path=(str(folder),), tokenizer=tokenizer, cache_dir=cache))


@pytest.mark.parametrize("tokenizer", ["bpe", "char"])
def test_samples_of_one_long_text_begin_where_a_line_does(tokenizer: str, tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [LINES * 50], tokenizer)
    assert lead_in(corpus) == "\n"
    assert corpus.tokenizer.decode(corpus.tokenizer.encode(lead_in(corpus))) == "\n"


def test_samples_of_one_text_without_lines_begin_with_a_word(tmp_path: Path) -> None:
    corpus = corpus_of(tmp_path, [LINES.replace("\n", " ") * 50], "bpe")
    assert lead_in(corpus) in ("Once", "Then")


def test_samples_of_many_texts_begin_where_a_document_does(tmp_path: Path) -> None:
    assert lead_in(corpus_of(tmp_path, [LINES] * (2 * MANY_DOCUMENTS), "bpe")) == ""


@pytest.mark.parametrize("text", ["абвг" * 300, "123 " * 300])
def test_a_text_without_lines_and_capitals_gives_no_word(text: str, tmp_path: Path) -> None:
    assert lead_in(corpus_of(tmp_path, [text], "char")) == ""
