"""What a file holds, by its first bytes: plain text, lines of JSON, or nothing to learn from.

A name says little: a page of an error stands in book.txt, and a dump of JSON in a file without a
suffix. What is no plain text is refused by name, with the way to its text where there is one.
Previous: piped_text.py.  Next: encodings.py.
"""

import codecs
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from cfg_gpt2 import require
from run_directory.json_file import parse_json
from run_directory.printable import quoted

FileType = Literal["text", "JSONL", "Parquet"]

HEAD_BYTES = 1 << 12
LINE_BYTES = 1 << 24  # of a line that is read to see whether it is JSON
TRIED_LINES = 20
TYPE_OF_SUFFIX: dict[str, FileType] = {
    ".jsonl": "JSONL", ".ndjson": "JSONL", ".parquet": "Parquet",
}  # fmt: skip
WEB_SUFFIXES = (".html", ".htm", ".xhtml")  # whoever names such a file wants to learn its tags

SAVE = "save it as plain text in UTF-8"
LEAVE = "leave it out"
FOREIGN = [  # first bytes, what they are, what to do
    (rb"\x1f\x8b", "a gzip file", "unpack it with gunzip -c {file} > {out}"),
    (rb"BZh[1-9]1AY&SY", "a bzip2 file", "unpack it with bunzip2 -c {file} > {out}"),
    (rb"\xfd7zXZ\0", "an xz file", "unpack it with xz -dc {file} > {out}"),
    (rb"\x28\xb5\x2f\xfd", "a zstd file", "unpack it with zstd -dc {file} > {out}"),
    (rb"\x04\x22\x4d\x18", "an lz4 file", "unpack it with lz4 -dc {file} > {out}"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it with 7z x {file}"),
    (rb"Rar!\x1a\x07", "a RAR archive", "unpack it with unrar x {file}"),
    (rb".{257}ustar", "a tar archive", "unpack it with tar -xf {file}"),
    (rb"PK\x03\x04.{26}\[Content_Types\]\.xml", "an Office document (zip)", SAVE),
    (rb"PK\x03\x04.{26}mimetypeapplication/epub", "an EPUB book (zip)", SAVE),
    (rb"PK\x03\x04.{26}mimetypeapplication/vnd", "an OpenDocument file (zip)", SAVE),
    (rb"PK(\x03\x04|\x05\x06)", "a zip archive", "unpack it with unzip {file}"),
    (rb"%PDF-", "a PDF", "take its text out with pdftotext {file} {out}"),
    (rb"\{\\rtf", "an RTF document", SAVE),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document of an old kind", SAVE),
    (rb"%!PS", "a PostScript document", "take its text out with ps2ascii {file} > {out}"),
    (rb"AT&TFORM", "a DjVu document", "take its text out with djvutxt {file} {out}"),
    (rb"\s*(<\?xml[^>]*>\s*)?<FictionBook", "an FB2 book", SAVE),
    (rb"\x89PNG\r\n", "a PNG image", LEAVE),
    (rb"\xff\xd8\xff", "a JPEG image", LEAVE),
    (rb"GIF8[79]a", "a GIF image", LEAVE),
    (rb"RIFF.{4}WEBP", "a WebP image", LEAVE),
    (rb"BM.{4}\0{4}", "a BMP image", LEAVE),
    (rb"II\*\0|MM\0\*", "a TIFF image", LEAVE),
    (rb"\0\0\0.ftyp", "a film, a sound or an image (MP4)", LEAVE),
    (rb"RIFF.{4}(WAVE|AVI )|ID3[\x02-\x04]|OggS\0|fLaC\0", "a sound or a film", LEAVE),
    (rb"\x1aE\xdf\xa3", "a film (Matroska)", LEAVE),
    (rb"SQLite format 3\0", "an SQLite database", "write the text in it to a .txt file"),
    (rb"\x7fELF|\xcf\xfa\xed\xfe|MZ.{58}[^\n]{2}\0\0", "a program", LEAVE),
    (rb"\x93NUMPY", "a NumPy array", LEAVE),
    (rb"\x89HDF\r\n", "an HDF5 file", LEAVE),
    (rb"GGUF[\x01-\x04]\0", "a GGUF model", LEAVE),
    (rb".{3}\0{5}\{\"", "a safetensors file", LEAVE),
    (rb"version https://git-lfs", "a Git LFS pointer to the text, which is not here",
     "fetch the text with git -C {folder} lfs pull"),
]  # fmt: skip
_FOREIGN = [(re.compile(magic, re.DOTALL), name, todo) for magic, name, todo in FOREIGN]
_WEB_PAGE = re.compile(
    rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<(!doctype\s+html|html)\b", re.DOTALL | re.IGNORECASE
)
_OBJECT = re.compile(rb'\{\s*("(?:[^"\\]|\\.)*"\s*:|\})')
_ARRAY = re.compile(rb'\[\s*([\[{"\]]|null\b|true\b|false\b|-?\d)')
_ARRAY_OF_OBJECTS = re.compile(rb'\[\s*\{\s*"(?:[^"\\]|\\.)*"\s*:')


def common_type(files: Iterable[Path]) -> FileType:
    """Returns the type of all files.

    Raises ValueError where it is not one, and for a file that holds no text.
    """
    examples: dict[FileType, Path] = {}
    for file in files:
        examples.setdefault(type_of(file), file)
    named = " and ".join(f"{file} ({name})" for name, file in examples.items())
    require(
        len(examples) == 1,
        f"--data.path names files of several kinds, {named}; make shards of each kind with "
        "python main.py prepare, and train on both: --data.path shards1 shards2",
    )
    return next(iter(examples))


def type_of(file: Path) -> FileType:
    """Returns what a file holds. Raises ValueError, with a remedy, where that is no text."""
    with file.open("rb") as content:
        head = content.read(HEAD_BYTES)
    by_name = TYPE_OF_SUFFIX.get(file.suffix.lower())
    if by_name == "Parquet" or head.startswith(b"PAR1"):
        return "Parquet"
    require_plain_text(file, head)
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    is_page = _WEB_PAGE.match(start) and file.suffix.lower() not in WEB_SUFFIXES
    require(not is_page, f"{file} is HTML, a web page, and no plain text; {SAVE}")
    if by_name and not start.startswith(b"["):
        return by_name
    found = type_of_json(file, start)
    return by_name or found


def require_plain_text(file: Path, head: bytes) -> None:
    """Raises ValueError, with a remedy, where a file's first bytes are those of another kind."""
    for magic, name, todo in _FOREIGN:
        require(not magic.match(head), f"{file} is {name} and no plain text; {remedy(todo, file)}")


def remedy(todo: str, file: Path) -> str:
    """Returns what to do about a file, as a command that can be pasted where there is one."""
    out = file.name.partition(".")[0] + ".unpacked.txt"
    names = {"file": str(file), "folder": str(file.parent), "out": out}
    return todo.format(**{key: quoted(name) for key, name in names.items()})


def type_of_json(file: Path, start: bytes) -> FileType:
    """Returns JSONL for a file of JSON objects, one a line, and text for what is no JSON.

    start is its beginning, without white space. Raises ValueError for JSON of another form.
    """
    if not (_OBJECT.match(start) or _ARRAY.match(start)):
        return "text"
    rows = [parse(line) for line in first_lines(file)]
    if len([row for row in rows if isinstance(row, dict)]) > len(rows) / 2:
        return "JSONL"
    if _ARRAY_OF_OBJECTS.match(start) or is_one_array(file):
        command = remedy("jq -c '.[]' {file}", file) + f" > {quoted(file.stem + '.jsonl')}"
        raise ValueError(
            f"{file} is one array of JSON and no plain text; write an object a line with "
            f"{command}, which train, evaluate and prepare read by the field 'text'"
        )
    require(
        not _OBJECT.match(start) or isinstance(rows[0], dict),  # a line of JSON among others
        f"{file} is JSON and no plain text; write its texts into a .txt file, or an object a line "
        "into a .jsonl file, which train, evaluate and prepare read by the field 'text'",
    )
    return "text"


def first_lines(file: Path) -> list[bytes]:
    """Returns the first lines that are not empty, whole where they are not endless."""
    lines: list[bytes] = []
    with file.open("rb") as content:
        while len(lines) < TRIED_LINES and (line := content.readline(LINE_BYTES)):
            if stripped := line.removeprefix(codecs.BOM_UTF8).strip():
                lines.append(stripped)
    return lines


def parse(line: bytes) -> object:
    """Returns the value of a line of JSON; None where it is none."""
    try:
        return parse_json(line, "the line")
    except ValueError:
        return None


def is_one_array(file: Path) -> bool:
    """Returns whether a file, if it is no longer than LINE_BYTES, is one array of JSON."""
    with file.open("rb") as content:
        return isinstance(parse(content.read(LINE_BYTES)), list)
