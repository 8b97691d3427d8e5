"""Files of strangers: valid ones with bytes, values and sizes changed at random, and plain noise.

Hypothesis draws the changes, so a failing input is found again and made smaller.
"""

import json
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import strategies as st

HUGE = [0, -1, 2**31, 2**63, 2**64, 2**70, 10**18, 10**400, 1e308, -1e308, 5e-324, 0.5, -0.0]
WORDS = ["", "..", "../outside", "../../etc/passwd", "/etc/passwd", "\0", "\x1b]0;x\a", "x" * 9_000]
DEEP = "a value that is nested 5,000 deep"  # json.dumps cannot write one
BYTES = [b"", b"\xef\xbb\xbf", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{\0}\0", b"\0" * 99]

scalars = (
    st.none()
    | st.booleans()
    | st.sampled_from([*HUGE, *WORDS, DEEP, float("nan"), float("inf")])
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
)
values = (
    scalars
    | st.lists(scalars, max_size=4)
    | st.dictionaries(st.text(max_size=9), scalars, max_size=4)
)
noise = st.binary(max_size=300) | st.sampled_from(BYTES)


@st.composite
def changed_bytes(draw: st.DrawFn, valid: bytes) -> bytes:
    """A file in which some bytes are flipped, cut off, repeated or put in."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["flip", "cut", "repeat", "insert", "remove"])):
            case "flip" if data:
                data[at] ^= draw(st.integers(1, 255))
            case "cut":
                del data[at:]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(0, 200))]
            case "insert":
                data[at:at] = draw(noise)[:5_000]
            case "remove":
                del data[at : at + draw(st.integers(0, 50))]
    return bytes(data)


@st.composite
def changed_json(draw: st.DrawFn, valid: bytes) -> bytes:
    """A JSON file in which some values are replaced, removed or added."""
    whole = [json.loads(valid)]
    for _ in range(draw(st.integers(1, 3))):
        place, key = whole, 0
        while isinstance(inner := place[key], dict | list) and inner and draw(st.integers(0, 4)):
            keys = list(inner) if isinstance(inner, dict) else range(len(inner))
            place, key = inner, draw(st.sampled_from(keys))
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                place[key] = draw(values)
            case "remove" if place is not whole:
                del place[key]
            case "add" if isinstance(place[key], dict):
                place[key][draw(st.text(max_size=9))] = draw(values)
            case "add" if isinstance(place[key], list):
                place[key].append(draw(values))
    text = json.dumps(whole[0]).replace(json.dumps(DEEP), "[" * 5_000 + "]" * 5_000)
    return text.encode()


@st.composite
def changed_lines(draw: st.DrawFn, valid: bytes) -> bytes:
    """A file of JSON lines in which one line is changed."""
    lines = valid.splitlines(keepends=True)
    number = draw(st.integers(0, len(lines) - 1))
    lines[number] = draw(changed_json(lines[number]) | noise) + draw(st.sampled_from([b"\n", b""]))
    return b"".join(lines)


@st.composite
def changed_safetensors(draw: st.DrawFn, valid: bytes) -> bytes:
    """A safetensors file with other values in its header, the size of which is right or wrong."""
    (size,) = struct.unpack("<Q", valid[:8])
    header = draw(changed_json(valid[8 : 8 + size]))
    stated = draw(st.sampled_from([len(header), len(header), len(header), 0, size, 2**63]))
    return struct.pack("<Q", stated) + header + valid[8 + size :]


def files_like(valid: bytes, kind: str) -> st.SearchStrategy[bytes]:
    """Returns a strategy for files of a kind: json, lines, safetensors or bytes."""
    changed = {"json": changed_json, "lines": changed_lines, "safetensors": changed_safetensors}
    strategy = changed_bytes(valid) | noise
    return changed[kind](valid) | strategy if kind in changed else strategy


opened_paths: list[str] | None = None  # while a test asks for them


def record_open(event: str, arguments: tuple) -> None:
    """Audit hook, which Python never removes: notes the files that are opened."""
    if opened_paths is not None and event == "open" and isinstance(arguments[0], str | bytes):
        path = arguments[0]
        opened_paths.append(path if isinstance(path, str) else path.decode(errors="replace"))


sys.addaudithook(record_open)


@contextmanager
def opened_files() -> Iterator[list[Path]]:
    """Yields a list that has, at the end of the context, the files that were opened in it."""
    global opened_paths
    opened_paths, files = [], []
    try:
        yield files
    finally:
        files += [Path(path).resolve() for path in opened_paths if "\0" not in path]
        opened_paths = None
