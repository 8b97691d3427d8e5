"""Text from models, files and users as a terminal may show it, and commands as a shell reads them.

A file name, a token or a prompt may hold bytes that a terminal obeys: they clear the screen, rename
the window or write to the clipboard. A person gets them as visible escapes such as \\x1b, a program
that reads --json gets them exactly.
Previous: ../cfg_gpt2.py.  Next: files.py.
"""

import json
import os
import re
import shlex
import subprocess
from pathlib import PurePath

# All control characters but newline and tab; the marks that turn the direction of the text after
# them; and surrogates, as which Python holds the bytes of names that are not UTF-8.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
NO_LETTER = re.compile(f"{UNSAFE.pattern}|[\n\t]")  # what a line that is pasted cannot hold
CMD_SPECIAL = re.compile(r"[&|<>^()!;,=%'`]")  # what cmd reads as more than a letter


def printable(text: str) -> str:
    """Returns a text with escapes such as \\x1b for what a terminal would obey, and not show."""
    return UNSAFE.sub(escaped, text)


def escaped(match: re.Match[str]) -> str:
    """Returns the escape of one character; of a byte that is no UTF-8, the byte."""
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # Python's place for the bytes 0x80 to 0xff of a name
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def json_line(value: object, encoding: str | None) -> str:
    """Returns one line of JSON that gives back the value exactly, on a terminal too.

    Letters stand as they are where the encoding of the output has them, else as \\u0431.
    """
    line = json.dumps(value, ensure_ascii=False)
    try:
        line.encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", line)


def main_command(*words: str | PurePath) -> str:
    """Returns `python main.py` and the words as a line that can be pasted into a shell."""
    return " ".join(["python main.py", *map(quoted, words)])


def quoted(word: str | PurePath, *, windows: bool = os.name == "nt") -> str:
    """Returns a word of a command as the shell of this system reads it back: POSIX sh, or cmd.

    A path that begins with - or ~ gets ./ in front, for it is no flag and no home directory.
    """
    text = str(word)
    if isinstance(word, PurePath) and text.startswith(("-", "~")):
        text = os.path.join(".", text)
    if windows:
        return quoted_for_cmd(text)
    if not NO_LETTER.search(text):
        return shlex.quote(text)
    plain = text.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + NO_LETTER.sub(byte_escapes, plain) + "'"


def byte_escapes(match: re.Match[str]) -> str:
    """Returns the bytes of a character as \\x1b, which bash and zsh read within $'...'."""
    character = match[0]
    if character in "\n\t":
        return "\\n" if character == "\n" else "\\t"
    from_name = "\udc80" <= character <= "\udcff"
    bytes_ = character.encode("utf-8", "surrogateescape" if from_name else "surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in bytes_)


def quoted_for_cmd(text: str) -> str:
    """Returns a word as cmd and the C runtime of Windows read it back."""
    line = subprocess.list2cmdline([text])
    if line.startswith('"') or not CMD_SPECIAL.search(text):
        return line
    return f'"{line}' + "\\" * (len(line) - len(line.rstrip("\\"))) + '"'
