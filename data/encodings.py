"""What is wrong with a file that is not UTF-8, and the command that mends it where there is one.

A byte order mark is proof of an encoding. Without one the library charset-normalizer guesses, and
the guess is said as a guess, with words that it reads. A text that is UTF-8 but for a few bytes is
never offered a conversion: that would garble all the rest.
Previous: file_types.py.  Next: splits.py.
"""

import codecs
import os
import re
import unicodedata
from itertools import pairwise
from pathlib import Path

from run_directory.printable import quoted

WINDOW_BYTES = 1 << 22  # of the file around the first wrong byte that are looked at
SAMPLE_BYTES = 1 << 15  # of lines with other characters than ASCII, for a guess
EXCERPT_CHARACTERS = 40
CHECKED_BYTES = 1 << 26  # of the file that a guess must be able to read

MARKS = {  # longer ones first: UTF-32 begins as UTF-16 does
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
WIDE = ("UTF-32LE", "UTF-32BE", "UTF-16LE", "UTF-16BE")
GUESSES = {  # Python's names, in order of preference where they read alike; those of iconv
    "cp1252": "CP1252",
    "cp1251": "CP1251",
    "koi8_r": "KOI8-R",
    "cp866": "CP866",
    "cp1250": "CP1250",
    "iso8859_2": "ISO-8859-2",
    "cp1253": "CP1253",
    "cp1254": "CP1254",
    "cp1255": "CP1255",
    "cp1256": "CP1256",
    "cp1257": "CP1257",
    "mac_cyrillic": "MACCYRILLIC",
    "mac_roman": "MACINTOSH",
    "cp932": "CP932",
    "euc_jp": "EUC-JP",
    "gb18030": "GB18030",
    "big5": "BIG5",
    "cp949": "CP949",
}
NEAR_CHAOS, NEAR_COHERENCE = 0.15, 0.06  # by which the library's second guesses may be worse
PUNCTUATION = "“”„‘’‚—–…«»¿¡€°№§£ºª©®·•\u00a0、。「」『』，？！：；（）・ー〜《》\u3000"
_ESCAPED = re.compile("[\udc80-\udcff]+")  # bytes that are not UTF-8, as surrogateescape has them
_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_CONTROL = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f]")  # which texts do not have


def not_utf8(file: Path, offset: int) -> ValueError:
    """Returns the error that names the first byte of a file that is not UTF-8, and a remedy."""
    first = max(0, offset - WINDOW_BYTES // 2) // 4 * 4
    with file.open("rb") as content:
        head = content.read(4)
        content.seek(first)
        window = content.read(WINDOW_BYTES)
    size = file.stat().st_size
    rest = "the rest" if size == len(window) else "the text around it"
    inside = window.lstrip(bytes(range(0x80, 0xC0))) if first else window  # from a character on
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    text = decoder.decode(inside, final=first + len(window) == size)
    remedy = (
        marked(file, head)
        or broken_off(window[offset - first :])
        or guess_of_wide(file, window)
        or damage(window, text, rest)
        or guess(file, window)
        or "its encoding is not known; save it as UTF-8 in an editor that shows it correctly"
    )
    byte = window[offset - first : offset - first + 1].hex()
    return ValueError(f"{file} is not UTF-8 text: byte 0x{byte} at offset {offset}; {remedy}")


def marked(file: Path, head: bytes) -> str | None:
    """Returns the remedy for a file whose byte order mark says what it is, else None."""
    encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), None)
    return f"it is {encoding}: {conversion(file, encoding)}" if encoding else None


def broken_off(left: bytes) -> str | None:
    """Returns the remedy for a file that is zero bytes from the wrong one on, else None."""
    if len(left) < 2 or left.strip(b"\0"):
        return None
    return (
        "all bytes from there on are zero, as a copy leaves them that was broken off; copy or "
        "download it again"
    )


def guess_of_wide(file: Path, window: bytes) -> str | None:
    """Returns the remedy for UTF-16 or UTF-32 without a byte order mark, else None."""
    found: list[tuple[int, str, str]] = []
    for encoding in WIDE if b"\0" in window else ():
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(window[:SAMPLE_BYTES])
        except UnicodeDecodeError:
            continue
        n_strange = sum(not c.isprintable() and c not in "\t\n\r\f" for c in text)
        n_spaces = sum(map(text.count, " \n\u3000\u3002"))
        if n_spaces and n_strange < len(text) / 100:
            found.append((n_spaces, encoding, text))
    return guessed(file, *max(found)[1:]) if found else None


def damage(window: bytes, text: str, rest: str) -> str | None:
    """Returns what is to be mended in a text that is UTF-8 but for some bytes, else None.

    text is what the window decodes to, with surrogates for the bytes that are not UTF-8.
    """
    runs = [len(run) for run in _ESCAPED.findall(text)]
    n_wrong, n_zeros = sum(runs), window.count(b"\0")
    n_others = sum(character > "\x7f" for character in text) - n_wrong
    if n_wrong and n_wrong == len(b"".join(_SURROGATE.findall(window))):
        return (
            f"{rest} is UTF-8, but this is a surrogate, which CESU-8 has and UTF-8 has not; write "
            "the text again as UTF-8"
        )
    few = n_others > n_wrong or (len(runs) == 1 and n_wrong < 4)
    if is_binary(window) or (n_wrong and not few):
        return None
    if n_wrong + n_zeros == 1:
        return f"{rest} is UTF-8, so correct this byte by hand"
    return f"all but {n_wrong + n_zeros:,} bytes of {rest} are UTF-8, so correct those by hand"


def is_binary(window: bytes) -> bool:
    """Returns whether more than one byte of fifty is a control code that no text has."""
    return len(_CONTROL.findall(window)) > len(window) / 50


def guess(file: Path, window: bytes) -> str | None:
    """Returns the remedy for the encoding that a file probably has; None: nobody knows it."""
    if is_binary(window):
        return "it is binary data and no text; leave it out"
    from charset_normalizer import from_bytes  # imported here: only a wrong file needs it

    sample = lines_beyond_ascii(file)
    matches = list(from_bytes(sample, cp_isolation=list(GUESSES)))
    names = [
        name
        for match in matches
        if match.chaos <= matches[0].chaos + NEAR_CHAOS
        and match.coherence >= matches[0].coherence - NEAR_COHERENCE
        for name in match.could_be_from_charset
        if name in GUESSES
    ]
    order = list(GUESSES)
    strange = {name: round(strangeness(sample.decode(name, "ignore")), 2) for name in names}
    encoding = min(names, key=lambda name: (strange[name], order.index(name)), default=None)
    if encoding is None or not is_readable(file, encoding):
        return None
    return guessed(file, GUESSES[encoding], sample.decode(encoding, "ignore"))


def strangeness(text: str) -> float:
    """Returns how many characters beyond ASCII are unusual where they stand, as a fraction.

    That are symbols, the forms of letters that an encoding has beside the usual ones, and capitals
    behind small letters.
    """
    others = [character for character in text if character > "\x7f"]
    symbols = sum(
        not (unicodedata.category(c)[0] in "LM" or c in PUNCTUATION)
        or "\u3130" <= c <= "\u318f"  # single letters of Korean syllables
        or "\uff61" <= c <= "\uff9f"  # narrow katakana
        for c in others
    )
    capitals = sum(a.islower() and b.isupper() for a, b in pairwise(text) if max(a, b) > "\x7f")
    return (symbols + capitals) / max(1, len(others))


def lines_beyond_ascii(file: Path) -> bytes:
    """Returns the first lines of a file that have other bytes than ASCII, SAMPLE_BYTES of them."""
    sample = b""
    with file.open("rb") as lines:
        while len(sample) < SAMPLE_BYTES and (line := lines.readline(SAMPLE_BYTES)):
            sample += b"" if line.isascii() else line
    return sample


def is_readable(file: Path, encoding: str) -> bool:
    """Returns whether a file's first CHECKED_BYTES are text in an encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with file.open("rb") as content:
            for _ in range(CHECKED_BYTES >> 20):
                data = content.read(1 << 20)
                decoder.decode(data, final=not data)
    except UnicodeDecodeError:
        return False
    return True


def guessed(file: Path, encoding: str, text: str) -> str:
    """Returns the sentence that offers a conversion and shows how a text reads by it."""
    line = next(filter(str.strip, text.splitlines()), "")
    shown = "".join(c if c.isprintable() else " " for c in line.strip()[:EXCERPT_CHARACTERS])
    return f'perhaps it is {encoding}, a guess by which it reads "{shown}": ' + conversion(
        file, encoding
    )


def conversion(file: Path, encoding: str) -> str:
    """Returns the command that converts a file to UTF-8, into the working directory."""
    if os.name == "nt":  # has no iconv
        return "save it as UTF-8 in an editor"
    out = quoted(f"{file.stem}.utf8.txt")
    return f"convert it with iconv -f {encoding} -t UTF-8 {quoted(file)} > {out}"
