"""`python main.py chat RUN`: a dialogue on a terminal, in a pipe, or from flags.

Previous: chat_settings.py.  Next: tiny_questions/.
"""

import errno
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cfg_gpt2 import require
from commands.generate import open_for_generation
from commands.prompts import BYTE_ORDER_MARK, hint_about_escapes, read_line_of_input, utf8_text
from commands.streams import say
from decoding.display import Display
from finetuning.chat import Answer, Chat
from finetuning.chat_format import Message
from finetuning.chat_json import read_chat_settings
from finetuning.chat_settings import ChatCommand
from run_directory.files import sync
from run_directory.json_file import MAX_BYTES, parse_json, shortened
from run_directory.paths import explain, kind_of, user_path
from run_directory.printable import json_line
from training.progress import new_console

with suppress(ImportError):  # Windows has none; its own terminal edits lines
    import readline  # noqa: F401  with it, input() takes arrow keys and pasted lines

QUOTES = '"""'  # around a message of several lines
END_KEY = "Ctrl-Z and Enter" if os.name == "nt" else "Ctrl-D"
HELP = f"""\
/undo         take back the last question and its answer
/regenerate   answer the last question anew
/system TEXT  replace the system message; without TEXT there is none
/clear        forget all turns
/save FILE    add the dialogue to FILE, which finetune --data reads
/quit         end, as {END_KEY} does
Lines from \"\"\" to \"\"\" are one message. A message that begins with / is written with //.
Ctrl-C ends an answer; what was said of it stays in the dialogue, until /undo."""


def chat(command: ChatCommand) -> int:
    """`python main.py chat RUN`: answers messages, each in view of those before; returns 0."""
    settings = read_chat_settings(command.run)
    system = settings.system or ""
    if command.system is not None:
        system = utf8_text(command.system, "--system")
    messages = [Message("user", utf8_text(text, "--message")) for text in command.message]
    if hint := hint_about_escapes("--message", command.message):
        say(hint)
    model, tokenizer, tokens = open_for_generation(
        command.run, best=command.best, precision=command.precision, native=command.native
    )
    context, limit = model.config.context_length, command.max_new_tokens
    require(
        limit is None or limit < context,
        f"--max-new-tokens {limit} leaves no room for a question: the model reads {context} tokens "
        f"at once; leave it out, or try {context // 4}",
    )
    sampling = replace(command.sampling(context), stop_tokens=tokens.eos_token_id)
    dialogue = Chat(model, tokenizer, sampling, system=system, n_reserved=limit or 1)
    conversation = Conversation(command, dialogue)
    if not messages:
        return conversation.read_messages()
    for message in messages:
        conversation.ask(message.content)
    return 0


class Conversation:
    """A dialogue with a person or a program: messages come in, answers and notes go out."""

    def __init__(self, command: ChatCommand, dialogue: Chat) -> None:
        self.command, self.chat = command, dialogue
        self.is_interactive = sys.stdin.isatty() and not command.message
        self.console, self.notes = new_console(), new_console(stderr=True)
        self.notes.outlives_reader = True
        self.n_lines = 0  # of a pipe, that were read

    def read_messages(self) -> int:
        """Answers messages and obeys commands until the input ends; returns 0.

        On a terminal an error ends only the message that it is about. Elsewhere it is raised, as
        ValueError, with the number of the line.
        """
        if self.is_interactive:
            size, context = self.chat.model.n_parameters(), self.chat.context_length
            self.note(f"{size:,} parameters, context {context} tokens; /help lists the commands")
        was_interrupted = False
        while True:
            try:
                text = self.read_message()
                if text is None or not self.take(text):
                    return 0
                was_interrupted = False
            except KeyboardInterrupt:
                if was_interrupted or not self.is_interactive:
                    raise
                was_interrupted = True
                self.note(f"\n{END_KEY} or /quit ends, and so does Ctrl-C once more")
            except ValueError as error:
                if not self.is_interactive:
                    raise ValueError(f"line {self.n_lines}: {error}") from None
                say(f"error: {error}")

    def read_message(self) -> str | None:
        """Returns the next message or command; None: the input has ended.

        Raises ValueError where a message has no end.
        """
        line = self.read_line("> ")
        if line is None or not line.startswith(QUOTES):
            return line
        lines = [line.removeprefix(QUOTES)]
        while not lines[-1].endswith(QUOTES):
            line = self.read_line("")
            if line is None:
                raise ValueError(f"a message that begins with {QUOTES} does not end; close it so")
            lines.append(line)
        text = "\n".join(lines).removesuffix(QUOTES).strip()
        return f"/{text}" if text.startswith("/") else text

    def read_line(self, prompt: str) -> str | None:
        """Returns a line of the standard input; None: it has ended."""
        if not self.is_interactive:
            self.n_lines += 1
            return read_line_of_input("the message")
        try:
            line = input(prompt if sys.stdout.isatty() else "")
        except EOFError:
            self.note("")  # behind the prompt
            return None
        return utf8_text(line.removeprefix(BYTE_ORDER_MARK), "the message")

    def take(self, text: str) -> bool:
        """Answers a message or obeys a command; returns False where the dialogue is to end.

        Raises ValueError for a message or a command that cannot be taken.
        """
        if text.startswith("/") and not text.startswith("//"):
            return self.obey(text)
        if text.strip():
            self.ask(text[1:] if text.startswith("//") else text)
        return True

    def obey(self, line: str) -> bool:
        """Obeys a command; returns False for /quit. Raises ValueError where it cannot."""
        name, _, value = line.rstrip().partition(" ")
        with_value = {"/system": self.set_system, "/save": self.save}
        without = {
            "/undo": lambda: self.note(f"taken back: {shortened(' '.join(self.undo().split()))}"),
            "/regenerate": self.regenerate,
            "/clear": self.clear,
            "/help": lambda: self.note(HELP),
            "/quit": lambda: None,
        }
        if name in with_value:
            with_value[name](value.strip())
        else:
            advice = "/help lists the commands, and a message that begins with / is written with //"
            require(name in without, f"{name} is no command; {advice}")
            require(not value, f"{name} takes nothing behind it; leave out {value}")
            without[name]()
        return name != "/quit"

    def ask(self, text: str) -> None:
        """Answers a message. On a terminal Ctrl-C ends the answer, and what was said stays.

        Raises ValueError where the model cannot read it.
        """
        answer = self.chat.ask(text)
        try:
            self.show(answer)
        except KeyboardInterrupt:
            if not self.is_interactive:
                raise
            print()
        self.chat.keep(answer)
        if answer.n_left:
            self.note(f"the {answer.n_left} oldest messages have left the model's context")
        if self.command.json:
            return
        if answer.finish_reason == "length":
            self.note(f"the answer was cut off after {len(answer.row.tokens)} tokens")
        if not answer.row.text.strip():
            self.note("the answer is empty; it is left out of the dialogue, with its question")

    def show(self, answer: Answer) -> None:
        """Prints an answer: as it is written, or as a line of JSON when it has ended."""
        display = Display(self.console, [""], [answer.row], coloured=self.command.colour)
        for _ in self.chat.write(answer):
            if not self.command.json:
                display.update()
        if self.command.json:
            print(json_line(to_json(answer), sys.stdout.encoding), flush=True)

    def undo(self) -> str:
        """Takes the last turn back and returns its question. Raises ValueError without a turn."""
        question = self.chat.undo()
        if question is None:
            raise ValueError("there is no turn to take back; ask a question first")
        return question

    def regenerate(self) -> None:
        """Answers the last question anew, with other random numbers."""
        self.ask(self.undo())

    def set_system(self, text: str) -> None:
        """Replaces or removes the system message."""
        self.chat.set_system(text)
        if not text:
            self.note("there is no system message")

    def clear(self) -> None:
        """Forgets all turns."""
        self.chat.clear()

    def save(self, name: str) -> None:
        """Adds the dialogue to a file. Raises ValueError where that fails."""
        require(name != "", "/save needs a file; name one, such as /save corrections.jsonl")
        require(len(self.chat.messages) > 0, "there is nothing to save; ask a question first")
        messages = [*self.chat.system, *self.chat.messages]
        file = user_path(name, "/save")
        try:
            append_dialogue(file, messages)
        except OSError as error:
            raise ValueError(explain(error)) from None
        self.note(f"{len(messages)} messages added to {file}")

    def note(self, text: str) -> None:
        """Tells a person something beside the answers, dim, on the standard error."""
        self.notes.print(text, style="dim")


def to_json(answer: Answer) -> dict[str, object]:
    """Returns the fields of an answer in the output of --json."""
    return {
        "answer": answer.row.text,
        "finish_reason": answer.finish_reason,
        "tokens": answer.row.tokens,
        "log_probability": round(answer.log_probability, 6),
    }


def require_rows(file: Path) -> None:
    """Raises ValueError for a file that does not begin with an object in a line of its own."""
    if not file.exists():
        return
    with file.open("rb") as opened:
        line = opened.readline(MAX_BYTES)
    try:
        is_row = not line.strip() or isinstance(parse_json(line, str(file)), dict)
    except ValueError:
        is_row = False
    require(is_row, f"{file} has no dialogue in its first line; name another file, or a new one")


def append_dialogue(file: Path, messages: Sequence[Message]) -> None:
    """Adds a dialogue to a JSONL file as a line of OpenAI's messages, whole or not at all.

    Raises ValueError where the path names no file, OSError where it cannot be written.
    """
    kind = kind_of(file)
    require(kind in ("file", "missing"), f"{file} is a {kind}, not a file; name a file")
    require_rows(file)
    row = {"messages": [{"role": m.role, "content": m.content} for m in messages]}
    line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b", buffering=0) as opened:  # in one call, so that two programs may add
        end = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, end - 1))
        if opened.read(1) not in (b"\n", b""):
            line = b"\n" + line
        try:
            if opened.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        except OSError:
            opened.truncate(end)
            raise
    sync(file)
