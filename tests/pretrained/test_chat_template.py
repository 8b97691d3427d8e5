"""The chat template in exports: transformers gives the same ids as finetuning's own encoder."""

import json
import logging
import random
from pathlib import Path

import pytest
from oracles.chat_runs import TOKENIZERS, as_dicts, conversation, export, tuned_run, write_chat

import main
from finetuning.chat_format import Message, encode_dialogue, encode_prompt, text_of
from finetuning.chat_json import read_chat_settings
from run_directory.chat_template import jinja_template, read_template
from tokenizer import END_OF_TEXT


@pytest.mark.parametrize(
    "n", [200, pytest.param(10_000, marks=pytest.mark.slow)], ids=["fast", "slow"]
)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_transformers_gives_the_ids_of_our_own_encoder(name: str, n: int, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("jinja2")
    tokenizer = TOKENIZERS[name]
    folder = export(tuned_run(tmp_path / "run", tokenizer))
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    draw, n_typed, line_end = random.Random(n), 0, tokenizer.encode("\n")
    for _ in range(n):
        dialogue = conversation(draw)
        asks = dialogue[-1].role == "user"
        whole = encode_dialogue(dialogue, tokenizer).tokens + line_end
        ours = encode_prompt(dialogue, tokenizer) if asks else whole
        typed = any(END_OF_TEXT in message.content for message in dialogue)
        n_typed += typed
        given = theirs.apply_chat_template(
            as_dicts(dialogue),
            add_generation_prompt=asks,
            return_dict=False,
            sanitize_control_tokens=typed,
        )
        if typed:  # transformers cuts its letters out, so they are other tokens of the same text
            assert tokenizer.decode(given) == text_of(dialogue, END_OF_TEXT, asks=asks)
            assert given.count(tokenizer.end_of_text) == len(dialogue)
        else:
            assert given == ours
    assert 0 < n_typed < n / 4


def test_a_run_without_chat_json_is_exported_without_a_template(tmp_path: Path) -> None:
    run_dir = tuned_run(tmp_path / "run", TOKENIZERS["bpe"])
    (run_dir / "chat.json").unlink()
    folder = export(run_dir)
    assert not (folder / "chat_template.jinja").exists()
    assert "chat_template" not in (folder / "tokenizer_config.json").read_text(encoding="utf-8")
    assert "apply_chat_template" not in (folder / "README.md").read_text(encoding="utf-8")


def test_the_folder_says_how_a_chat_goes_and_where_an_answer_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer = TOKENIZERS["bpe"]
    run_dir = tuned_run(tmp_path / "run", tokenizer)
    (run_dir / "generation_config.json").write_text('{"bos_token_id": 0, "eos_token_id": 5}')
    folder = export(run_dir)
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    assert settings["chat_template"] == template == jinja_template(END_OF_TEXT)
    generation = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    assert generation["eos_token_id"] == [tokenizer.end_of_text, 5]
    assert "apply_chat_template" in (folder / "README.md").read_text(encoding="utf-8")
    logging.getLogger("transformers").propagate = True
    with caplog.at_level(logging.WARNING):
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert [record.getMessage() for record in caplog.records] == []
    assert theirs.chat_template == template


@pytest.mark.parametrize("system", [None, "Be 'kind'.\r\n{{ \\no }} «да»"])
def test_import_finds_the_template_again(tmp_path: Path, system: str | None) -> None:
    run_dir = tuned_run(tmp_path / "run", TOKENIZERS["bpe"], system)
    folder, again = export(run_dir), tmp_path / "again"
    assert main.main(["import", str(folder), "--out", str(again)]) == 0
    assert read_template(again, END_OF_TEXT) == read_template(run_dir, END_OF_TEXT)
    settings = read_chat_settings(again)
    assert (settings.system, settings.method) == (system, "import")


def test_the_template_of_another_program_is_not_taken_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, again = export(tuned_run(tmp_path / "run", TOKENIZERS["bpe"])), tmp_path / "again"
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert main.main(["import", str(folder), "--out", str(again)]) == 0
    assert "chat template is not taken over" in capsys.readouterr().out
    assert not (again / "chat.json").exists()


@pytest.mark.parametrize("system", [None, " Be 'kind'.\r\n{{ \\no }} «да» "])
def test_a_gguf_file_carries_the_template(tmp_path: Path, system: str | None) -> None:
    gguf = pytest.importorskip("gguf")
    tokenizer = TOKENIZERS["bpe"]
    run_dir = tuned_run(tmp_path / "run", tokenizer, system)
    folder = export(run_dir, "--format", "gguf")
    fields = gguf.GGUFReader(folder / "model.gguf").fields
    stored = fields["tokenizer.chat_template"].contents()
    assert stored == jinja_template(END_OF_TEXT, system) == read_template(run_dir, END_OF_TEXT)
    assert fields["tokenizer.ggml.eos_token_id"].contents() == tokenizer.end_of_text
    assert fields["tokenizer.ggml.add_bos_token"].contents() is False


@pytest.mark.parametrize("system", ["Be kind.", " Be 'kind'.\r\n{{ \\no }} «да» "])
def test_a_dialogue_without_a_system_message_gets_the_runs_own(system: str) -> None:
    jinja2 = pytest.importorskip("jinja2")
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # as transformers has it
    template = environment.from_string(jinja_template(END_OF_TEXT, system))
    draw = random.Random(1)
    for dialogue in (conversation(draw) for _ in range(50)):
        has_system = dialogue[0].role == "system"
        whole = dialogue if has_system else (Message("system", system), *dialogue)
        rendered = template.render(messages=as_dicts(dialogue), add_generation_prompt=True)
        assert rendered == text_of(whole, END_OF_TEXT, asks=True)


def test_older_llama_cpp_takes_the_template_for_zephyrs() -> None:
    text = jinja_template(END_OF_TEXT, "Be kind.")
    assert "<|user|>" in text and "<|endoftext|>" in text  # src/llama-chat.cpp looks for these
    assert "<|assistant|>" not in text and "[gMASK]" not in text and "<|im_start|>" not in text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([], "is not a JSON object"),
        ({"format": "chatml"}, "the format is 'chatml', and only 'turns' is known"),
        ({"format": "turns", "system": 3}, "'system' is no text"),
    ],
)
def test_a_broken_chat_json_stops_the_export(
    settings: object, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tuned_run(tmp_path / "run", TOKENIZERS["bpe"])
    write_chat(run_dir, settings)
    assert main.main(["export", str(run_dir), "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
