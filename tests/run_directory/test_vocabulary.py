"""Vocabularies of strangers: each gives back every text, or the part that loses it is named."""

import json
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers import Tokenizer as Library

from run_directory.vocabulary import PROBES, in_bytes
from tokenizer import BYTE_OF_CHARACTER, END_OF_TEXT, Tokenizer, UnseenCharacter

TEXT = "The fox asked where the drum was. It's in the barn! «В сарае», — сказала курица.\n" * 9
ALPHABET = sorted(BYTE_OF_CHARACTER)
GPT4_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

Normalizer = normalizers.Normalizer
PreTokenizer = pre_tokenizers.PreTokenizer
Change = Callable[[Library], object]


def byte_level(*, regex: bool = True, space: bool = False) -> pre_tokenizers.ByteLevel:
    return pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=regex)


def bpe(
    pre_tokenizer: PreTokenizer | None = None,
    *,
    normalizer: Normalizer | None = None,
    decoder: decoders.Decoder | None = None,
    alphabet: list[str] = ALPHABET,
    change: Change = lambda library: None,
    special: tuple[str, ...] = (END_OF_TEXT,),
    prefix: str = "",
    suffix: str = "",
    **options: object,
) -> Library:
    """A BPE of 400 tokens, GPT-2's own but for what is given."""
    marks = {"continuing_subword_prefix": prefix, "end_of_word_suffix": suffix}
    marks = {name: mark for name, mark in marks.items() if mark}
    library = Library(models.BPE(**options, **marks))  # pyright: ignore[reportArgumentType]
    library.pre_tokenizer = pre_tokenizer or byte_level()
    library.decoder = decoder or decoders.ByteLevel()
    library.train_from_iterator(
        [TEXT],
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=list(special),
            initial_alphabet=alphabet,
            show_progress=False,
            **marks,
        ),
    )
    if normalizer is not None:
        library.normalizer = normalizer
    change(library)
    return library


def steps(*parts: PreTokenizer) -> PreTokenizer:
    """A pre-tokenizer of several steps, GPT-2's bytes the last of them."""
    return pre_tokenizers.Sequence([*parts, byte_level(regex=False)])


def split(pattern: str | Regex, behavior: str, *, invert: bool = False) -> PreTokenizer:
    return steps(pre_tokenizers.Split(pattern, behavior, invert))


def characters(pre_tokenizer: PreTokenizer | None = None, extra: tuple[str, ...] = ()) -> Library:
    """A tokenizer of the characters of TEXT and of ASCII."""
    known = sorted({*TEXT, *map(chr, range(128))})
    tokens = [END_OF_TEXT, *known, *extra]
    library = Library(models.WordLevel({token: id for id, token in enumerate(tokens)}))
    library.pre_tokenizer = pre_tokenizer or pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    library.decoder = decoders.Fuse()
    return library


def added(*tokens: AddedToken | str) -> Change:
    return lambda library: library.add_tokens(list(tokens))


def added_special(*tokens: AddedToken | str) -> Change:
    return lambda library: library.add_special_tokens(list(tokens))


class Case(NamedTuple):
    """A tokenizer and the words of its refusal; None: it gives back every text."""

    make: Callable[[], Library]
    refused: str | None = None


def trained(model: models.Model, trainer: trainers.Trainer, decoder: decoders.Decoder) -> Library:
    library = Library(model)
    library.pre_tokenizer, library.decoder = byte_level(), decoder
    library.train_from_iterator([TEXT], trainer)
    return library


SPECIAL = [END_OF_TEXT, "[UNK]"]
CASES = {
    # normalizers
    "BertNormalizer": Case(
        lambda: bpe(normalizer=normalizers.BertNormalizer()), "normalizer BertNormalizer"
    ),
    "bytes as normalizer": Case(
        lambda: bpe(
            pre_tokenizers.Split(Regex(r"Ġ?[^Ġ]+|Ġ+"), "isolated"),
            normalizer=normalizers.ByteLevel(),
        )
    ),
    "Lowercase": Case(lambda: bpe(normalizer=normalizers.Lowercase()), "normalizer Lowercase"),
    "NFC": Case(lambda: bpe(normalizer=normalizers.NFC()), "normalizer NFC"),
    "NFD": Case(lambda: bpe(normalizer=normalizers.NFD()), "normalizer NFD"),
    "NFKC": Case(lambda: bpe(normalizer=normalizers.NFKC()), "normalizer NFKC"),
    "NFKD": Case(lambda: bpe(normalizer=normalizers.NFKD()), "normalizer NFKD"),
    "Nmt": Case(lambda: bpe(normalizer=normalizers.Nmt()), "normalizer Nmt"),
    "Prepend": Case(lambda: bpe(normalizer=normalizers.Prepend("▁")), "normalizer Prepend"),
    "Replace": Case(lambda: bpe(normalizer=normalizers.Replace(" ", "")), "normalizer Replace"),
    "Replace of a rare word": Case(
        lambda: bpe(normalizer=normalizers.Replace("zqxj", "z")), "normalizer Replace"
    ),
    "Strip": Case(lambda: bpe(normalizer=normalizers.Strip()), "normalizer Strip"),
    "StripAccents": Case(
        lambda: bpe(normalizer=normalizers.StripAccents()), "normalizer StripAccents"
    ),
    "the second of two normalizers": Case(
        lambda: bpe(
            normalizer=normalizers.Sequence([normalizers.Sequence([]), normalizers.NFC()])
        ),
        "normalizer NFC",
    ),
    "no normalizer in a sequence": Case(lambda: bpe(normalizer=normalizers.Sequence([]))),
    # pre-tokenizers
    "GPT-2's": Case(bpe),
    "no words": Case(lambda: bpe(byte_level(regex=False))),
    "GPT-4's words": Case(lambda: bpe(split(Regex(GPT4_PATTERN), "isolated"))),
    "add_prefix_space": Case(lambda: bpe(byte_level(space=True)), "ByteLevel makes 'a' and ' a'"),
    "add_prefix_space inside": Case(
        lambda: bpe(pre_tokenizers.Sequence([pre_tokenizers.Digits(), byte_level(space=True)])),
        "ByteLevel makes 'a' and ' a'",
    ),
    "BertPreTokenizer": Case(
        lambda: bpe(steps(pre_tokenizers.BertPreTokenizer())), "pre-tokenizer BertPreTokenizer"
    ),
    "CharDelimiterSplit": Case(
        lambda: bpe(steps(pre_tokenizers.CharDelimiterSplit("q"))),
        "pre-tokenizer CharDelimiterSplit",
    ),
    "Digits": Case(lambda: bpe(steps(pre_tokenizers.Digits(individual_digits=True)))),
    "grouped Digits": Case(lambda: bpe(steps(pre_tokenizers.Digits()))),
    "FixedLength": Case(lambda: bpe(steps(pre_tokenizers.FixedLength(3)))),
    "Metaspace": Case(
        lambda: bpe(steps(pre_tokenizers.Metaspace())), "pre-tokenizer Metaspace does not"
    ),
    "Metaspace without a prefix": Case(
        lambda: bpe(steps(pre_tokenizers.Metaspace(prepend_scheme="never", split=False))),
        "pre-tokenizer Metaspace does not",
    ),
    "Punctuation": Case(lambda: bpe(steps(pre_tokenizers.Punctuation()))),
    "Punctuation removed": Case(
        lambda: bpe(steps(pre_tokenizers.Punctuation("removed"))), "Punctuation removes"
    ),
    "Punctuation contiguous": Case(lambda: bpe(steps(pre_tokenizers.Punctuation("contiguous")))),
    "Split removed": Case(lambda: bpe(split("zqxj", "removed")), "Split removes"),
    "Split inverted and removed": Case(
        lambda: bpe(split(Regex(r"\S+"), "removed", invert=True)), "Split removes"
    ),
    "Split isolated": Case(lambda: bpe(split(" ", "isolated"))),
    "Split with the one before": Case(lambda: bpe(split(" ", "merged_with_previous"))),
    "Split with the next": Case(lambda: bpe(split(Regex(r"\s"), "merged_with_next"))),
    "Split contiguous and inverted": Case(
        lambda: bpe(split(Regex(r"\w"), "contiguous", invert=True))
    ),
    "a pattern that matches nothing": Case(lambda: bpe(split(Regex(r"a*"), "isolated"))),
    "UnicodeScripts": Case(  # drops characters of no script at the beginning
        lambda: bpe(steps(pre_tokenizers.UnicodeScripts())), "pre-tokenizer UnicodeScripts"
    ),
    "Whitespace": Case(
        lambda: bpe(steps(pre_tokenizers.Whitespace())), "pre-tokenizer Whitespace does not"
    ),
    "WhitespaceSplit": Case(
        lambda: bpe(steps(pre_tokenizers.WhitespaceSplit())), "pre-tokenizer WhitespaceSplit"
    ),
    "bytes of bytes": Case(lambda: bpe(steps(byte_level())), r"\(ByteLevel\) twice"),
    "letters": Case(lambda: bpe(pre_tokenizers.Digits()), r"\(ByteLevel\) nowhere"),
    "a pattern that takes forever": Case(
        lambda: bpe(split(Regex(r"(a|a|aa)+$"), "isolated")), "pattern .* takes too long"
    ),
    "words of words": Case(
        lambda: bpe(split(Regex(r"(\w+\s?)+$"), "isolated")), "pattern .* takes too long"
    ),
    # decoders, of which only BPE's own knows the bytes
    "BPEDecoder": Case(lambda: bpe(decoder=decoders.BPEDecoder()), "decoder BPEDecoder"),
    "ByteFallback": Case(lambda: bpe(decoder=decoders.ByteFallback()), "decoder ByteFallback"),
    "CTC": Case(lambda: bpe(decoder=decoders.CTC()), "decoder CTC"),
    "decoder Metaspace": Case(lambda: bpe(decoder=decoders.Metaspace()), "decoder Metaspace"),
    "decoder Replace": Case(lambda: bpe(decoder=decoders.Replace("a", "")), "decoder Replace"),
    "decoder Strip": Case(lambda: bpe(decoder=decoders.Strip(" ", 1, 0)), "decoder Strip"),
    "decoder WordPiece": Case(lambda: bpe(decoder=decoders.WordPiece()), "decoder WordPiece"),
    "decoders in a sequence": Case(
        lambda: bpe(decoder=decoders.Sequence([decoders.ByteLevel(), decoders.Fuse()]))
    ),
    # options of BPE
    "dropout": Case(lambda: bpe(dropout=0.5), "dropout 0.5"),
    "a little dropout": Case(lambda: bpe(dropout=0.001), "dropout 0.001"),
    "no dropout": Case(lambda: bpe(dropout=0.0)),
    "continuing_subword_prefix": Case(
        lambda: bpe(prefix="##"), r"'##' \(continuing_subword_prefix\)"
    ),
    "end_of_word_suffix": Case(lambda: bpe(suffix="</w>"), r"'</w>' \(end_of_word_suffix\)"),
    "without the bytes": Case(lambda: bpe(alphabet=[]), "lacks .* bytes, which are dropped"),
    "without the bytes but with unk": Case(
        lambda: bpe(alphabet=[], unk_token="<unk>", special=(END_OF_TEXT, "<unk>")),
        "lacks .* bytes, which become <unk>",
    ),
    "without one byte": Case(
        lambda: bpe(alphabet=[c for c in ALPHABET if BYTE_OF_CHARACTER[c] != 0x9F]),
        "lacks 1 of the 256 bytes",
    ),
    "without a byte that no text has": Case(
        lambda: bpe(alphabet=[c for c in ALPHABET if BYTE_OF_CHARACTER[c] != 0xFF])
    ),
    "unk and all bytes": Case(
        lambda: bpe(unk_token="<unk>", fuse_unk=True, special=(END_OF_TEXT, "<unk>"))
    ),
    "byte_fallback": Case(lambda: bpe(byte_fallback=True)),
    "ignore_merges": Case(lambda: bpe(ignore_merges=True)),
    # added tokens
    "added words": Case(lambda: bpe(change=added("título", "°C", " two words ", "\n\n"))),
    "an added word of one kind": Case(
        lambda: bpe(change=added(AddedToken("fox", single_word=True)))
    ),
    "an added word that takes spaces in": Case(
        lambda: bpe(change=added(AddedToken("fox", lstrip=True))), "added token 'fox' takes white"
    ),
    "an added word written as a byte": Case(
        lambda: bpe(change=added("Ġ")), "added token 'Ġ' is a token of other bytes"
    ),
    "special tokens": Case(
        lambda: bpe(
            change=added_special(
                AddedToken("<|ask|>", lstrip=True, rstrip=True), "[MASK]", "  ", "字"
            )
        )
    ),
    "a special token that is typed": Case(
        lambda: bpe(byte_level(regex=False), change=added_special("e")),
        "typed text becomes its special token e",
    ),
    # what does not matter
    "a template, truncation and padding": Case(lambda: bpe(change=with_template)),
    # other models
    "WordPiece": Case(
        lambda: trained(
            models.WordPiece(unk_token="[UNK]"),
            trainers.WordPieceTrainer(special_tokens=SPECIAL, show_progress=False),
            decoders.ByteLevel(),
        ),
        "model is WordPiece",
    ),
    "Unigram": Case(
        lambda: trained(
            models.Unigram(),
            trainers.UnigramTrainer(
                special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False
            ),
            decoders.ByteLevel(),
        ),
        "model is Unigram",
    ),
    "words": Case(
        lambda: trained(
            models.WordLevel(unk_token="[UNK]"),
            trainers.WordLevelTrainer(special_tokens=SPECIAL, show_progress=False),
            decoders.Fuse(),
        ),
        "pre-tokenizer ByteLevel",
    ),
    "characters": Case(characters),
    "characters and a word": Case(lambda: characters(extra=("word",)), "'word' is a word"),
    "characters without lines": Case(
        lambda: characters(pre_tokenizers.Split(Regex("."), "isolated")),
        "fails on its own characters",
    ),
    "characters without spaces": Case(
        lambda: characters(pre_tokenizers.WhitespaceSplit()), "pre-tokenizer WhitespaceSplit"
    ),
}  # fmt: skip


def with_template(library: Library) -> None:
    end = library.token_to_id(END_OF_TEXT)
    library.post_processor = processors.TemplateProcessing(
        single=f"{END_OF_TEXT} $A {END_OF_TEXT}", special_tokens=[(END_OF_TEXT, end)]
    )
    library.enable_truncation(5)
    library.enable_padding(length=20)


def random_texts(count: int, seed: int) -> list[str]:
    """Texts of many scripts, white space, marks, emoji, any code point, long runs and tokens."""
    rng = random.Random(seed)
    alphabets = [
        "abcdefghijklmnopqrstuvwxyz' ", "ABC 0123456789 .,;:!?-()'\"", "абвгдеё жзий",
        " \t\n\r\v\f\x1c\x85\xa0\u1680\u2028\u3000\u200b\ufeff", "\u0301\u0308\u20e3\ufe0f\u200d",
        "中文字日本語한국어", "😀👩🏽🚀🇷🇺", "²½Ⅷ٣ﬁ①Åßİı", "▁Ġ#@<>/",
    ]  # fmt: skip
    words = [END_OF_TEXT, "<unk>", "[UNK]", "título", "°C", "fox", "zqxj", "</w>", "##", "<|ask|>"]

    def piece() -> str:
        chance = rng.random()
        if chance < 0.1:
            return rng.choice(words)
        if chance < 0.2:
            return chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)]))
        return rng.choice(rng.choice(alphabets)) * (rng.randrange(200) if chance < 0.23 else 1)

    return ["".join(piece() for _ in range(rng.randrange(30))) for _ in range(count)]


def show_case(case: Case, folder: Path, texts: list[str]) -> None:
    """Holds that a tokenizer gives back texts, or is refused for the reason that is named."""
    case.make().save(str(folder / "tokenizer.json"))
    if case.refused is not None:
        with pytest.raises(ValueError, match=case.refused) as error:
            Tokenizer.from_gpt2(folder)
        assert str(error.value).startswith(f"{folder}/tokenizer.json cannot be used: ")
        assert re.search("; (take|set) ", str(error.value)) and "\n" not in str(error.value)
        return
    tokenizer = Tokenizer.from_gpt2(folder)
    if tokenizer.is_by_character:
        known = json.loads(tokenizer.to_json())["model"]["vocab"]
        texts = ["".join(c for c in text if c in known) for text in texts]
    assert list(map(tokenizer.decode, tokenizer.encode_batch(texts))) == texts
    theirs = Library.from_file(str(folder / "tokenizer.json"))
    theirs.no_truncation()
    theirs.no_padding()
    theirs.encode_special_tokens = True
    for text in texts[:100]:
        assert tokenizer.encode(text) == theirs.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("name", CASES)
def test_a_vocabulary_gives_back_every_text_or_is_refused(name: str, tmp_path: Path) -> None:
    show_case(CASES[name], tmp_path, random_texts(50, seed=1))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_vocabulary_gives_back_2000_random_texts_or_is_refused(name: str, tmp_path: Path) -> None:
    assert len(CASES) >= 50
    show_case(CASES[name], tmp_path, random_texts(2000, seed=2))


def test_the_probing_texts_have_every_byte_of_utf8() -> None:
    never = {0xC0, 0xC1, *range(0xF5, 0x100)}
    found = {BYTE_OF_CHARACTER[character] for character in in_bytes("".join(PROBES))}
    assert found == set(range(256)) - never


def write_two_files(folder: Path, tokens: list[str], merges: str = "") -> None:
    """A vocabulary in the form of Hugging Face's older tools."""
    ids = {token: id for id, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}", encoding="utf-8")


def test_letters_with_a_mark_at_the_end_of_the_word_are_refused(tmp_path: Path) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    write_two_files(tmp_path, [END_OF_TEXT, *letters, *(c + "</w>" for c in letters)])
    with pytest.raises(ValueError, match=r"lacks 230 of the 256 bytes.*letters with </w>"):
        Tokenizer.from_gpt2(tmp_path)


def test_a_prefix_that_would_end_the_process_is_refused(tmp_path: Path) -> None:
    """It cuts a merge within a character, and the library aborts, which Python cannot catch."""
    file = tmp_path / "tokenizer.json"
    library = Library(models.BPE({"h": 0, "°": 1, "h°": 2}, [("h", "°")]))
    library.add_special_tokens([END_OF_TEXT])
    library.save(str(file))
    description = json.loads(file.read_text())
    description["model"]["continuing_subword_prefix"] = "("
    file.write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"its BPE writes '\(' \(continuing_subword_prefix\)"):
        Tokenizer.from_gpt2(tmp_path)


def test_two_tokens_of_one_id_and_ids_far_beyond_the_tokens_are_refused(tmp_path: Path) -> None:
    ids = {token: id for id, token in enumerate([END_OF_TEXT, *ALPHABET])}
    write_two_files(tmp_path, [])
    (tmp_path / "vocab.json").write_text(json.dumps({**ids, "ab": 5}))
    with pytest.raises(ValueError, match="two of its tokens have one id"):
        Tokenizer.from_gpt2(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({**ids, "ab": 2**32 - 1}))
    with pytest.raises(ValueError, match="258 tokens, but ids up to 4,294,967,295"):
        Tokenizer.from_gpt2(tmp_path)


def test_a_run_with_a_vocabulary_that_loses_text_is_not_opened(tmp_path: Path) -> None:
    bpe(normalizer=normalizers.Lowercase()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match="normalizer Lowercase"):
        Tokenizer.load(tmp_path)


def test_a_byte_order_mark_before_a_vocabulary_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("\ufeff" + bpe().to_str(), encoding="utf-8")
    assert Tokenizer.from_gpt2(tmp_path).decode(Tokenizer.load(tmp_path).encode(TEXT)) == TEXT


def test_a_pattern_on_which_the_library_gives_up_ends_in_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    library = bpe(split(Regex(r"(xyz|xyz|xyzxyz)+$"), "isolated"))
    library.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"the tokenizer fails on the text.*; take GPT-2's"):
        Tokenizer.load(tmp_path).encode("xyz" * 500 + "!")
    assert capfd.readouterr() == ("", "")
    print("heard again", file=sys.stderr)
    assert capfd.readouterr().err == "heard again\n"


@pytest.mark.parametrize("settings", ["tokenizer_config.json", "special_tokens_map.json"])
@pytest.mark.parametrize("as_object", [False, True])
def test_the_end_of_text_that_settings_name_is_taken_and_kept(
    settings: str, as_object: bool, tmp_path: Path
) -> None:
    library = bpe(special=("<s>", "</s>", END_OF_TEXT))
    (tmp_path / "theirs").mkdir()
    library.save(str(tmp_path / "theirs" / "tokenizer.json"))
    named = {"content": "</s>", "lstrip": False} if as_object else "</s>"
    (tmp_path / "theirs" / settings).write_text(json.dumps({"eos_token": named}))
    tokenizer = Tokenizer.from_gpt2(tmp_path / "theirs")
    tokenizer.save(tmp_path / "run")
    again = Tokenizer.load(tmp_path / "run")
    for opened in (tokenizer, again):
        assert (opened.end_token, opened.end_of_text) == ("</s>", 1)
        assert opened.encode("a</s>", allow_end_of_text=True) == [*opened.encode("a"), 1]
        assert not {0, 1, 2} & set(opened.encode(f"<s>a</s>{END_OF_TEXT}"))


def test_the_end_of_text_can_be_chosen(tmp_path: Path) -> None:
    bpe(special=("<s>", "</s>")).save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_gpt2(tmp_path, end_of_text="</s>")
    tokenizer.save(tmp_path)
    assert Tokenizer.load(tmp_path).end_of_text == tokenizer.end_of_text == 1
    with pytest.raises(ValueError, match="has no <end>"):
        Tokenizer.from_gpt2(tmp_path, end_of_text="<end>")


def test_an_end_of_text_that_the_vocabulary_lacks_is_not_taken(tmp_path: Path) -> None:
    bpe().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<EOS>"}')
    assert Tokenizer.from_gpt2(tmp_path).end_token == END_OF_TEXT


@pytest.mark.parametrize("content", ["[", "[1]", "[" * 100_000, "\udcff"])
def test_broken_settings_beside_a_vocabulary_are_named(content: str, tmp_path: Path) -> None:
    bpe().save(str(tmp_path / "tokenizer.json"))
    file = tmp_path / "tokenizer_config.json"
    file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"tokenizer_config.json is not (a )?JSON"):
        Tokenizer.from_gpt2(tmp_path)


def test_special_tokens_are_read_where_asked_for_as_the_library_reads_them(tmp_path: Path) -> None:
    mask, right = AddedToken("<mask>", lstrip=True), AddedToken("<r>", rstrip=True)
    word = AddedToken("EOS", single_word=True)
    library = bpe(change=added_special("<|ask|>", "<|ask|>!", mask, right, word, "字"))
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_gpt2(tmp_path)
    asked = ["<|ask|>Who?<|ask|>!", "a <mask> b <r> \n c", "EOS EOSX xEOS 字.EOS", "", "字"]
    for text in [*asked, END_OF_TEXT * 2]:
        expected = library.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text, allow_special=True) == expected
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.special_tokens["<mask>"] == library.token_to_id("<mask>")


def test_added_tokens_are_written_as_they_are_spelled(tmp_path: Path) -> None:
    bpe(change=added("título", "°C")).save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_gpt2(tmp_path)
    ids = tokenizer.encode("título 20°C")
    assert len(ids) < 6 and tokenizer.decode(ids) == "título 20°C"
    stream = tokenizer.decode_stream()
    assert "".join(map(stream.step, ids)) + stream.finish() == "título 20°C"


def changed(value: object, rng: random.Random) -> object:
    """A JSON value with one place of it left out, replaced by another value, or moved."""
    values = [
        None,
        True,
        0,
        -1,
        2**63,
        0.5,
        "",
        "\udcff",
        "a" * 999,
        "(",
        [],
        {},
        [[]],
        {"type": "BPE"},
    ]
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        entries = list(value.items() if isinstance(value, dict) else enumerate(value))
        key, inner = rng.choice(entries)
        entries = [entry for entry in entries if entry[0] != key]
        if rng.random() < 0.85:
            entries.insert(rng.randrange(len(entries) + 1), (key, changed(inner, rng)))
        return dict(entries) if isinstance(value, dict) else [inner for _, inner in entries]
    if isinstance(value, int) and not isinstance(value, bool) and rng.random() < 0.5:
        return value + rng.choice([-1, 1, 7, 10**6])
    return rng.choice(values)


def fuzz(folder: Path, count: int, seed: int) -> int:
    """Opens `count` changed files; each gives text back or raises ValueError. Returns how many do
    the first.
    """
    rng, opened = random.Random(seed), 0
    wholes = [json.loads(library.to_str()) for library in (
        bpe(), bpe(split(Regex(GPT4_PATTERN), "isolated"), change=added("fox")), characters()
    )]  # fmt: skip
    for _ in range(count):
        content = changed(rng.choice(wholes), rng)
        (folder / "tokenizer.json").write_text(json.dumps(content))
        try:
            tokenizer = Tokenizer.from_gpt2(folder)
        except ValueError as error:
            assert "tokenizer.json" in str(error) and "\n" not in str(error)
            continue
        text = "The fox asked" if tokenizer.is_by_character else TEXT
        try:
            assert tokenizer.decode(tokenizer.encode(text)) == text
        except UnseenCharacter:
            assert tokenizer.is_by_character
        opened += 1
    return opened


@pytest.mark.slow
def test_a_changed_vocabulary_gives_text_back_or_is_refused(tmp_path: Path) -> None:
    assert 5 < fuzz(tmp_path, 60, seed=3) < 55


@pytest.mark.slow
def test_ten_thousand_changed_vocabularies_give_text_back_or_are_refused(tmp_path: Path) -> None:
    fuzz(tmp_path, 10_000, seed=4)
