"""JSONL: train and evaluate read the texts that prepare reads, and say what a line lacks."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from oracles.corpora import PROSE, documents, write

import main
from cfg_gpt2 import DataConfig
from data.json_lines import document_of_line, read_lines
from data.sources import JsonLinesSource, open_source
from load_data import load_corpus

SettingsOf = Callable[..., DataConfig]

TEXTS = [f"Line number {number} of a story, «{number * 7}».\n" for number in range(300)]
LINES = "".join(json.dumps({"n": k, "text": text}) + "\n" for k, text in enumerate(TEXTS))


@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.json", "a"])
def test_train_reads_the_documents_that_prepare_reads(
    name: str, settings_of: SettingsOf, tmp_path: Path
) -> None:
    file = write(tmp_path / name, LINES)
    corpus = load_corpus(settings_of(file, vocab_size=300, validation_share=0.2))
    out = str(tmp_path / "shards")
    arguments = ["--data.validation-share", "0.2", "--data.vocab-size", "300", "--workers", "1"]
    assert main.main(["prepare", "--data.path", str(file), *arguments, "--out", out]) == 0
    shards = load_corpus(DataConfig(path=(out,)))
    assert corpus.tokenizer.to_json() == shards.tokenizer.to_json()
    for ours, theirs in ((corpus.train, shards.train), (corpus.validation, shards.validation)):
        assert ours.tokens[:].tolist() == theirs.tokens[:].tolist()
        assert ours.n_bytes == theirs.n_bytes
    train, validation = documents(corpus, corpus.train), documents(corpus, corpus.validation)
    assert sorted(train + validation) == sorted(TEXTS) and 30 < len(validation) < 90
    assert any("its field 'text' is read" in note for note in corpus.notes) == (name != "a.jsonl")


def test_a_long_document_is_read_in_chunks_and_stays_one(
    settings_of: SettingsOf, tmp_path: Path
) -> None:
    rows = [json.dumps({"text": text}) for text in [PROSE * 200, "", PROSE, *TEXTS]]
    config = settings_of(write(tmp_path / "a.jsonl", "\n".join(rows)), vocab_size=300)
    source = open_source(config)
    assert isinstance(source, JsonLinesSource)
    chunks = [chunk for split in ("train", "validation") for chunk in source.chunks(split)]
    assert len([chunk for chunk in chunks if chunk.start == 0]) == 302
    assert max(len(chunk.text) for chunk in chunks) <= 1 << 16
    corpus = load_corpus(config)
    assert PROSE * 200 in documents(corpus, corpus.train) + documents(corpus, corpus.validation)


def test_the_size_of_the_text_is_estimated_without_the_json_around_it(tmp_path: Path) -> None:
    rows = [json.dumps({"text": text, "about": "x" * 50}) for text in TEXTS]
    source = open_source(DataConfig(path=(str(write(tmp_path / "a.jsonl", "\n".join(rows))),)))
    n_bytes = sum(len(text.encode()) for text in TEXTS)
    estimated = source.n_bytes("train") + source.n_bytes("validation")
    assert abs(estimated / n_bytes - 1) < 0.01


def test_bom_crlf_and_empty_lines_between_documents_vanish(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", "\ufeff" + LINES.replace("\n", "\r\n\r\n"))
    assert [line.text for line in read_lines(file, "text", 0.0)] == TEXTS


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"text": null}', "here has null in 'text' where a text is needed; leave the line out"),
        ('{"text": 3}', "here has a number in 'text'"),
        ('{"text": ["a"]}', "here has a list in 'text'"),
        ('{"text": {"a": 1}}', "here has an object in 'text'"),
        ('{"text": true}', "here has true in 'text'"),
        ('{"body": "a", "n": 1}', "has no text in 'text' but body, n; name another field by prep"),
        ("{}", "here has no text in 'text' but no fields; name another"),
        ('["a"]', "here is a list; give one object a line, such as {"),
        ('"a"', "here is a text; give one object a line"),
        ("null", "here is null; give one object a line"),
        ('{"text": "a"', "here is not JSON: EOF"),
        ("[" * 100_000, "here is not JSON: nested more than 200 deep"),
        ('{"text": "\\ud800"}', "a surrogate and no character"),
    ],
)
def test_a_line_without_a_text_is_said_truly(line: str, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:
        document_of_line(line.encode(), "text", "here")
    assert sentence in str(caught.value)


def test_of_many_fields_a_few_are_named() -> None:
    row = {f"field{number}" + "x" * 90: number for number in range(20_000)}
    with pytest.raises(ValueError, match="and 19,995 others; name another") as caught:
        document_of_line(json.dumps(row).encode(), "text", "here")
    assert len(str(caught.value)) < 400


def test_a_line_in_another_encoding_is_named_with_its_file(tmp_path: Path) -> None:
    line = json.dumps({"text": "Лиса спросила, где барабан."}, ensure_ascii=False) + "\n"
    file = write(tmp_path / "a.jsonl", line.encode() + line.encode("cp1251") * 9)
    with pytest.raises(ValueError, match=r"a.jsonl is not UTF-8 text: byte 0xcb at offset 72"):
        list(read_lines(file, "text", 0.0))


def test_a_mix_of_jsonl_is_made_of_shards(settings_of: SettingsOf, tmp_path: Path) -> None:
    files = [write(tmp_path / name, LINES) for name in ("a.jsonl", "b.jsonl")]
    with pytest.raises(ValueError, match=r"--data.mix of JSONL is read from shards; make them"):
        load_corpus(settings_of(*files, mix=(1, 1)))


def test_parquet_is_sent_to_prepare(settings_of: SettingsOf, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is Parquet, and training reads shards of it: python"):
        load_corpus(settings_of(write(tmp_path / "a b.parquet", b"PAR1")))
