"""`chat` as a person and as a program meet it."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import main
from cfg_gpt2 import GPT2Config, RunConfig
from finetuning import chat_command
from finetuning.chat import Answer, Chat
from finetuning.chat_command import append_dialogue
from finetuning.chat_format import Message, encode_prompt
from finetuning.chat_json import ChatSettings, write_chat_settings
from finetuning.conversations import read_conversations
from gpt2 import GPT2Model
from run_directory.config_file import write_config
from tokenizer import Tokenizer

ROOT = Path(main.__file__).parent
TEXT = "Где Макс? In the hall. 🦊 <|user|>\n <|assistant|>\n <|system|>\n"
TUNED = ChatSettings(method="sft", base="runs/tiny", data=("tiny-questions",), base_sha256="3f2a")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that says it was tuned; its weights are random."""
    run = tmp_path_factory.mktemp("assistant")
    tokenizer = Tokenizer.train([TEXT * 20], 320)
    torch.manual_seed(1)
    sizes = GPT2Config(
        vocab_size=tokenizer.vocab_size, context_length=120, n_layer=1, n_head=2, n_embd=16
    )
    write_config(run, RunConfig(model=sizes))
    model = GPT2Model(sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6)  # else it repeats a token
    model.save(run)
    tokenizer.save(run)
    write_chat_settings(run, TUNED)
    return run


Captured = pytest.CaptureFixture[str]


def chat(run: Path, *flags: str, limit: int = 5) -> int:
    return main.main(["chat", str(run), "--max-new-tokens", str(limit), *flags])


class Terminal(io.StringIO):
    """A standard input that counts as a terminal, on which Ctrl-C can be pressed."""

    def isatty(self) -> bool:
        return True

    def readline(self, size: int | None = -1, /) -> str:
        line = super().readline()
        if line == "^C\n":
            raise KeyboardInterrupt
        return line


def test_messages_of_flags_are_one_dialogue(run: Path, capsys: Captured) -> None:
    flags = ["--message", "Где Макс?", "--message", "In the hall? 🦊", "--temperature", "0"]
    assert chat(run, *flags, "--json") == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert chat(run, *flags) == 0
    assert capsys.readouterr().out == f"{first['answer']}\n{second['answer']}\n"
    assert list(first) == ["answer", "finish_reason", "tokens", "log_probability"]
    tokenizer, model = Tokenizer.load(run), GPT2Model.load(run)
    messages = [Message("user", "Где Макс?"), Message("assistant", first["answer"])]
    prompt = encode_prompt([*messages, Message("user", "In the hall? 🦊")], tokenizer)
    assert second["finish_reason"] == "length" and len(second["tokens"]) == 5
    with torch.no_grad():
        values = model(torch.tensor([prompt + second["tokens"]]))[0].log_softmax(dim=-1)
    chosen = values[len(prompt) - 1 : -1].gather(1, torch.tensor(second["tokens"])[:, None])
    assert chosen.sum().item() == pytest.approx(second["log_probability"], abs=1e-3)
    assert [int(v.argmax()) for v in values[len(prompt) - 1 : -1]] == second["tokens"]


def test_the_seed_decides_the_answers_and_temperature_0_needs_none(
    run: Path, capsys: Captured
) -> None:
    said = []
    for flags in (["--seed", "1"], ["--seed", "1"], ["--seed", "2"]):
        assert chat(run, "--message", "Где?", "--message", "Где?", *flags, limit=20) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]


def test_lines_of_a_pipe_are_messages_and_commands(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    file = tmp_path / "new" / "saved.jsonl"
    lines = [
        "Где Макс?", "", f"/save {file}", "/system In", "/undo", '"""', "two", 'lines"""', "//x",
        "/regenerate", f"/save {file}", "/quit", "never",
    ]  # fmt: skip
    data = "\ufeff" + "\r\n".join(lines)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data.encode()), "ascii"))
    assert chat(run, "--json", "--system", "the hall") == 0
    said = capsys.readouterr()
    answers = [json.loads(line)["answer"] for line in said.out.splitlines()]
    rows = [json.loads(line)["messages"] for line in file.read_text("utf-8").splitlines()]
    assert [[message["content"] for message in row] for row in rows] == [
        ["the hall", "Где Макс?", answers[0].strip()],
        ["In", "two\nlines", answers[1].strip(), "/x", answers[3].strip()],
    ]
    assert [message["role"] for message in rows[0]] == ["system", "user", "assistant"]
    assert len(answers) == 4 and answers[2] != answers[3]
    assert "taken back: Где Макс?" in said.err and "5 messages added to" in said.err


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("Где?\n/undu", "line 2: /undu is no command; /help lists"),
        ("/undo", "line 1: there is no turn to take back"),
        ("/undo 3", "/undo takes nothing behind it; leave out 3"),
        ("/regenerate", "there is no turn"),
        ("/save", "/save needs a file"),
        ("/save a.jsonl", "there is nothing to save"),
        ("Где?\n/save .", "is a folder, not a file"),
        ("Где?\n/save config.json/a", "cannot be used: "),
        ('"""Где?', 'a message that begins with """ does not end'),
        ("а" * 500, "line 1: this message has"),
        ("\udcff\udcfe", "the message is not UTF-8 text"),
    ],
)
def test_a_line_that_cannot_be_taken_ends_a_pipe_with_its_number(
    lines: str,
    words: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.json").touch()
    data = io.BytesIO(lines.encode("utf-8", "surrogateescape"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(data, "utf-8"))
    assert chat(run, limit=20) == 2
    said = capsys.readouterr().err
    assert words in said and said.splitlines()[-1].startswith("error: line ")


def test_on_a_terminal_an_error_ends_only_its_message_and_ctrl_c_only_an_answer(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    plain, written = Chat.write, []

    def write(self: Chat, answer: Answer) -> Iterator[None]:
        for number, _ in enumerate(plain(self, answer)):
            if answer.question.content == "In?" and number == 2:
                raise KeyboardInterrupt
            yield
        written.append(answer)

    monkeypatch.setattr(Chat, "write", write)
    lines = ["Где?", "^C", "/undu", "а" * 500, "In?", "/undo", "/help"]
    monkeypatch.setattr("sys.stdin", Terminal("\n".join(lines)))
    assert chat(run, "--colour") == 0
    said = capsys.readouterr()
    assert said.err.count("error: ") == 2 and "/undu is no command" in said.err
    assert "/help lists the commands" in said.err and "Ctrl-C once more" in said.err
    assert "taken back: In?" in said.err and "until /undo." in said.err
    assert [answer.question.content for answer in written] == ["Где?"]


def test_ctrl_c_twice_at_the_prompt_ends(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("^C\n^C\n"))
    with pytest.raises(KeyboardInterrupt):
        chat(run)


def test_turns_that_leave_are_told_and_an_empty_answer_is_left_out(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("In the hall.\n" * 20))
    assert chat(run) == 0
    said = capsys.readouterr().err
    assert "oldest messages have left the model's context" in said
    assert "the answer was cut off after 5 tokens" in said
    monkeypatch.setattr(chat_command.Display, "update", lambda self: None)
    monkeypatch.setattr(Answer, "finish_reason", "stop")
    monkeypatch.setattr("decoding.rows.RowState.text", " ")
    assert chat(run, "--message", "Где?") == 0
    assert "the answer is empty; it is left out" in capsys.readouterr().err


WRONG = {
    "--temperature -1": "--temperature -1.0 must be 0",
    "--top-p 0": "--top-p 0.0 must be above 0",
    "--max-new-tokens 0": "--max-new-tokens 0 must be 1 or more",
    "--max-new-tokens 120": "leaves no room for a question: the model reads 120 tokens",
    "--native perhaps": "--native perhaps is unknown",
    "--beams 3": "Unrecognized options: --beams",
    "Куда?": "Unrecognized options: Куда?; give a message by --message",
    "--color": "perhaps you meant --colour",
    "--message=": "the user's message is empty",
    "--best": "has no checkpoint with a validation loss",
}


@pytest.mark.parametrize(("flags", "words"), WRONG.items(), ids=WRONG)
def test_a_wrong_flag_is_one_sentence(flags: str, words: str, run: Path, capsys: Captured) -> None:
    assert main.main(["chat", str(run), "--message", "Где?", *flags.split()]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and said.startswith("error: ")


def test_a_run_that_was_not_tuned_is_refused(tmp_path: Path, capsys: Captured) -> None:
    write_config(tmp_path, RunConfig())
    assert chat(tmp_path) == 2
    assert f"{tmp_path} was not finetuned for chat; python main.py finetune " in (
        capsys.readouterr().err
    )


DIALOGUE = [Message("user", "Где Макс? 🦊"), Message("assistant", "In the\nhall.")]
ROW = '{"messages": [{"role": "user", "content": "Где Макс? 🦊"}, '
ROW += '{"role": "assistant", "content": "In the\\nhall."}]}\n'


@pytest.mark.parametrize("before", ["", '{"a": 1}\n', '{"a": 1}'])
def test_a_saved_dialogue_is_a_line_of_its_own(before: str, tmp_path: Path) -> None:
    file = tmp_path / "saved.jsonl"
    file.write_text(before)
    append_dialogue(file, DIALOGUE)
    append_dialogue(file, DIALOGUE)
    assert file.read_text("utf-8") == '{"a": 1}\n' * bool(before) + ROW * 2


@pytest.mark.parametrize(
    "before",
    ["a text\n", '{\n  "method": "sft"\n}\n', '[{"a": 1}]\n', "\x10\0\0\0{}", "\0" * 99],
    ids=["text", "JSON over lines", "list", "tensors", "zeros"],
)
def test_a_file_of_something_else_gets_no_dialogue(before: str, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    file.write_text(before)
    with pytest.raises(ValueError, match="has no dialogue in its first line; name another file"):
        append_dialogue(file, DIALOGUE)
    assert file.read_text() == before


def test_finetune_reads_what_was_saved(tmp_path: Path) -> None:
    file = tmp_path / "saved.jsonl"
    append_dialogue(file, DIALOGUE)
    append_dialogue(file, [Message("system", "Ты — помощник."), *DIALOGUE])
    read = read_conversations([str(file)]).dialogues
    assert read == [tuple(DIALOGUE), (Message("system", "Ты — помощник."), *DIALOGUE)]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    import resource

    file = tmp_path / "saved.jsonl"
    file.write_text("{}\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        with pytest.raises(OSError):
            append_dialogue(file, DIALOGUE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert file.read_text() == "{}\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="these are terminals of Unix")
def test_a_person_talks_on_a_terminal(run: Path) -> None:
    from oracles.terminal import typed_in_terminal

    command = [sys.executable, str(ROOT / "main.py"), "chat", str(run), "--temperature", "1"]
    for last, status in ((b"\x04", 0), (b"/quit\n", 0), (b"\x03", 130)):
        turns = [
            (b"> ", "Где Макс?\n".encode()),
            (b"\n> ", b"/undo\n"),
            (b"\n> ", b"\x03"),
            (b"\n> ", last),
        ]
        ended, shown = typed_in_terminal(command, turns)
        assert ended == status and b"Traceback" not in shown
        assert "taken back: Где Макс?".encode() in shown and b"/help lists" in shown
