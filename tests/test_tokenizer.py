"""Tokenizer against tiktoken, transformers and byte-pair encoding written out; its own promises."""

import doctest
import json
import random
from pathlib import Path

import pytest
import tiktoken
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tokenizers import Tokenizer as Library
from tokenizers import pre_tokenizers

import tokenizer as module
from tokenizer import (
    BYTE_OF_CHARACTER,
    END_OF_TEXT,
    GPT2_PATTERN,
    Pair,
    Tokenizer,
    encode_by_merges,
    learn_merges,
    split_words,
)

SHARED = Path(__file__).resolve().parents[2] / "shared"
GPT2_FILES = SHARED / "gpt2_vocab"
CORPORA = [SHARED / "corpora" / name for name in ("tinyshakespeare.txt", "dead_souls_ru.txt")]
needs_shared = pytest.mark.skipif(
    not all(path.exists() for path in (GPT2_FILES, *CORPORA)),
    reason="GPT-2's vocabulary and the corpora lie outside the repository, in ../shared",
)
# Radford et al. 2019, as published with GPT-2's encoder.py.
PUBLISHED_PATTERN = (
    r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
)

ENGLISH = "The fox asked where the drum was. It's in the barn, the hen said, isn't it?\n" * 20
RUSSIAN = "Лиса спросила, где барабан. «В сарае», — ответила курица, и все засмеялись.\n" * 20
TRAINED = Tokenizer.train([ENGLISH, RUSSIAN], 350)
patient = settings(deadline=None)  # the machine may be busy
seeded = settings(patient, derandomize=True)
Vocabulary = tuple[Tokenizer, dict[Pair, int], dict[bytes, int]]
texts = st.text(st.characters(exclude_categories=["Cs"]))  # all of Unicode but surrogates


def tiktoken_of(folder: Path) -> tiktoken.Encoding:
    """tiktoken with the ranks of a tokenizer.json: the bytes, then the merges in their order."""
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    shown = gpt2_alphabet()
    ids = {bytes(shown[c] for c in token): id for token, id in model["vocab"].items()
           if token != END_OF_TEXT}  # fmt: skip
    return tiktoken.Encoding(
        "oracle",
        pat_str=PUBLISHED_PATTERN,
        mergeable_ranks=ids,
        special_tokens={END_OF_TEXT: model["vocab"][END_OF_TEXT]},
    )


def tiktoken_gpt2() -> tiktoken.Encoding:
    """tiktoken built from the published files, without the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")  # no copies of the files elsewhere
        ranks = data_gym_to_mergeable_bpe_ranks(
            str(GPT2_FILES / "vocab.bpe"), str(GPT2_FILES / "encoder.json")
        )
    return tiktoken.Encoding(
        "gpt2",
        pat_str=PUBLISHED_PATTERN,
        mergeable_ranks=ranks,
        special_tokens={END_OF_TEXT: 50256},
    )


def gpt2_alphabet() -> dict[str, int]:
    """bytes_to_unicode of GPT-2's encoder.py, the other way round."""
    visible = list(range(ord("!"), ord("~") + 1))
    visible += list(range(ord("¡"), ord("¬") + 1)) + list(range(ord("®"), ord("ÿ") + 1))
    shown, extra = {chr(byte): byte for byte in visible}, 256
    for byte in range(256):
        if byte not in visible:
            shown[chr(extra)] = byte
            extra += 1
    return shown


def random_strings(count: int) -> list[str]:
    """Strings that mix scripts, white space of every kind, marks, emoji and any code point."""
    rng = random.Random(20)
    alphabets = [
        "abcdefghijklmnopqrstuvwxyz'sdtmrevl ", "ABC 0123456789 .,;:!?-()'\"", "абвгдеёжзийклмн ",
        " \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2009\u2028\u2029\u202f\u205f\u3000\u200b",
        "\u0301\u0308\u20e3\ufe0f\u200d", "中文字符日本語한국어", "😀👩🏽🚀🇷🇺", "²½Ⅷ٣४",
        END_OF_TEXT,
    ]  # fmt: skip

    def character() -> str:
        if rng.random() < 0.2:
            return chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)]))
        return rng.choice(rng.choice(alphabets))

    return ["".join(character() for _ in range(rng.randrange(40))) for _ in range(count)]


@needs_shared
@pytest.mark.parametrize("corpus", CORPORA, ids=lambda path: path.stem)
def test_gpt2_ids_of_the_corpora_equal_tiktokens(corpus: Path) -> None:
    text = corpus.read_text(encoding="utf-8")
    assert Tokenizer.from_gpt2(GPT2_FILES).encode(text) == tiktoken_gpt2().encode_ordinary(text)


@needs_shared
def test_gpt2_ids_of_ten_thousand_random_strings_equal_tiktokens() -> None:
    strings = random_strings(10_000)
    tokenizer, oracle = Tokenizer.from_gpt2(GPT2_FILES), tiktoken_gpt2()
    assert tokenizer.encode_batch(strings) == [oracle.encode_ordinary(text) for text in strings]
    assert [tokenizer.decode(tokenizer.encode(text)) for text in strings[:1000]] == strings[:1000]


@needs_shared
def test_gpt2_has_its_published_size_and_well_known_ids() -> None:
    tokenizer = Tokenizer.from_gpt2(str(GPT2_FILES))
    assert (tokenizer.vocab_size, tokenizer.end_of_text) == (50257, 50256)
    assert tokenizer.encode("Hello, world") == [15496, 11, 995]


def test_ids_of_a_trained_vocabulary_equal_tiktokens(tmp_path: Path) -> None:
    TRAINED.save(tmp_path)
    oracle = tiktoken_of(tmp_path)
    for text in [ENGLISH, RUSSIAN, *random_strings(2000)]:
        assert TRAINED.encode(text) == oracle.encode_ordinary(text)


@pytest.mark.parametrize("tokenizer", [TRAINED, Tokenizer.characters([RUSSIAN])])
def test_transformers_loads_the_saved_file_and_gives_the_same_ids(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path)
    file = str(tmp_path / "tokenizer.json")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=file)
    assert theirs(RUSSIAN)["input_ids"] == tokenizer.encode(RUSSIAN)
    assert theirs.decode(tokenizer.encode(RUSSIAN)) == RUSSIAN


@patient
@given(texts)
def test_any_text_comes_back_from_bpe(text: str) -> None:
    assert TRAINED.decode(TRAINED.encode(text)) == text


@patient
@given(texts, texts)
def test_any_text_of_known_characters_comes_back_from_characters(text: str, more: str) -> None:
    tokenizer = Tokenizer.characters([text, more])
    assert tokenizer.decode(tokenizer.encode(text + more)) == text + more
    assert len(tokenizer.encode(text)) == len(text)
    assert tokenizer.vocab_size == len(set(text + more)) + 1


@pytest.mark.parametrize(
    "text", ["a\r\nb\r", "e\u0301 é", "👩🏽‍🚀🇷🇺", " \t\u2028 ", "\ufeffя\0", END_OF_TEXT]
)
def test_line_ends_marks_and_emoji_come_back(text: str) -> None:
    tokenizer = Tokenizer.characters([text])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert TRAINED.decode(TRAINED.encode(text)) == text


@patient
@given(texts)
@example("a\n\n\r\n b")
def test_the_look_up_of_characters_equals_the_librarys_own_way(text: str) -> None:
    tokenizer = Tokenizer.characters([text])
    assert tokenizer.encode(text) == tokenizer._library.encode(text).ids


@patient
@given(st.lists(st.integers(0, TRAINED.vocab_size - 1)))
def test_a_stream_gives_what_decode_and_the_library_give_even_for_broken_utf8(
    ids: list[int],
) -> None:
    stream = TRAINED.decode_stream()
    whole = "".join(map(stream.step, ids)) + stream.finish()
    assert whole == TRAINED.decode(ids)
    assert whole == TRAINED._library.decode(ids, skip_special_tokens=False)


@patient
@given(texts.filter(lambda text: "\ufffd" not in text))
def test_a_stream_never_shows_half_a_character(text: str) -> None:
    stream, so_far = TRAINED.decode_stream(), ""
    for id in TRAINED.encode(text):
        so_far += stream.step(id)
        assert text.startswith(so_far)
    assert so_far == text and stream.finish() == ""


def test_a_stream_that_ends_within_a_character_says_so_at_the_end() -> None:
    *first, _ = Tokenizer.train([], 257).encode("🙂")
    stream = Tokenizer.train([], 257).decode_stream()
    assert [stream.step(id) for id in first] == ["", "", ""]
    assert (stream.finish(), stream.finish()) == ("\ufffd", "")


def test_end_of_text_that_is_typed_stays_text_unless_asked_for() -> None:
    for tokenizer in (TRAINED, Tokenizer.characters([END_OF_TEXT + "ab"])):
        text = f"a{END_OF_TEXT}b{END_OF_TEXT}"
        end = tokenizer.end_of_text
        typed = tokenizer.encode(text)
        assert end not in typed and tokenizer.decode(typed) == text
        [a], [b] = tokenizer.encode("a"), tokenizer.encode("b")
        meant = tokenizer.encode(text, allow_end_of_text=True)
        assert meant == [a, end, b, end]
        assert tokenizer.decode(meant) == text
        assert tokenizer.encode("", allow_end_of_text=True) == []


def test_end_of_text_stays_text_after_loading_too(tmp_path: Path) -> None:
    TRAINED.save(tmp_path)
    assert TRAINED.end_of_text not in Tokenizer.load(tmp_path).encode(END_OF_TEXT)


def test_training_is_deterministic_and_vocab_size_is_a_ceiling() -> None:
    again = Tokenizer.train(iter([ENGLISH, RUSSIAN]), 350)
    assert again._library.to_str() == TRAINED._library.to_str()
    assert TRAINED.vocab_size == 350
    assert Tokenizer.train(["ab"], 1000).vocab_size == 257
    assert Tokenizer.train([], 1000).vocab_size == 257


def test_training_merges_the_most_frequent_pair_first() -> None:
    assert Tokenizer.train(["ab ab ab cd cd"], 258).decode([257]) == "ab"


def test_trained_bpe_needs_fewer_ids_in_each_language_it_has_read() -> None:
    for text in (ENGLISH, RUSSIAN):
        assert len(TRAINED.encode(text)) < 0.6 * len(text.encode())


def test_a_vocabulary_below_all_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="vocab_size 256 must be at least 257"):
        Tokenizer.train(["text"], 256)


def test_an_unseen_character_is_named_with_its_place_and_a_way_out() -> None:
    tokenizer = Tokenizer.characters(["helo"])
    sentence = r"'ё' \(U\+0451\) at position 3 of the text .* 4 characters .*--data.tokenizer bpe"
    with pytest.raises(ValueError, match=sentence):
        tokenizer.encode("helёo")
    with pytest.raises(ValueError, match=r"U\+1F642"):
        tokenizer.encode_batch(["hello", "🙂"])


def test_saving_and_loading_keeps_ids_and_sizes(tmp_path: Path) -> None:
    for tokenizer in (TRAINED, Tokenizer.characters([RUSSIAN])):
        tokenizer.save(tmp_path / "run")
        loaded = Tokenizer.load(tmp_path / "run")
        assert loaded.encode(RUSSIAN) == tokenizer.encode(RUSSIAN)
        assert loaded.decode(loaded.encode(RUSSIAN)) == RUSSIAN
        assert loaded.vocab_size == tokenizer.vocab_size
        assert loaded.end_of_text == tokenizer.end_of_text
        assert [file.name for file in (tmp_path / "run").iterdir()] == ["tokenizer.json"]


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe")])
def test_all_three_forms_of_a_vocabulary_give_the_same_ids(
    names: tuple[str, str], tmp_path: Path
) -> None:
    write_two_files(tmp_path / "two", names)
    TRAINED.save(tmp_path / "one")
    for folder in ("one", "two"):
        tokenizer = Tokenizer.from_gpt2(tmp_path / folder)
        assert tokenizer.encode(ENGLISH + RUSSIAN) == TRAINED.encode(ENGLISH + RUSSIAN)
        assert tokenizer.vocab_size == TRAINED.vocab_size


def write_two_files(folder: Path, names: tuple[str, str]) -> None:
    """The trained vocabulary in OpenAI's form or in Hugging Face's."""
    model = json.loads(TRAINED._library.to_str())["model"]
    folder.mkdir()
    (folder / names[0]).write_text(json.dumps(model["vocab"]), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in model["merges"])
    (folder / names[1]).write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")


def test_a_foreign_file_cannot_shorten_or_pad_what_is_encoded(tmp_path: Path) -> None:
    library = Library.from_str(TRAINED._library.to_str())
    library.enable_truncation(5)
    library.enable_padding(length=200)
    library.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer.load(tmp_path).encode(ENGLISH) == TRAINED.encode(ENGLISH)


def test_a_folder_without_a_vocabulary_is_refused_with_the_names_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no vocabulary.*vocab.json . merges.txt"):
        Tokenizer.from_gpt2(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere is not a folder"):
        Tokenizer.from_gpt2(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"tokenizer.json does not exist"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("content", ["", "{}", '{"version": "1.0"', "[1]", "\udcff"])
def test_a_broken_tokenizer_file_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content.encode(errors="surrogateescape"))
    for open_it in (Tokenizer.load, Tokenizer.from_gpt2):
        with pytest.raises(ValueError, match=r"tokenizer.json is not a vocabulary"):
            open_it(tmp_path)


def test_a_truncated_file_and_merges_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    TRAINED.save(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is not a vocabulary"):
        Tokenizer.load(tmp_path)
    write_two_files(tmp_path / "two", ("vocab.json", "merges.txt"))
    (tmp_path / "two" / "merges.txt").write_text("#version: 0.2\nxyz zyx\n")
    with pytest.raises(ValueError, match=r"vocab.json is not a vocabulary.*xyz"):
        Tokenizer.from_gpt2(tmp_path / "two")


def test_a_vocabulary_without_an_end_of_text_is_refused(tmp_path: Path) -> None:
    no_end = Library.from_str(TRAINED.to_json().replace(END_OF_TEXT, "</s>"))
    no_end.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ValueError, match=r"has no <.endoftext.>; name the token .* .eos_token."):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("id", [-1, 350, 50256])
def test_an_id_outside_the_vocabulary_is_refused_not_dropped(id: int) -> None:
    with pytest.raises(ValueError, match=f"token id {id} is not in the vocabulary of 350 tokens"):
        TRAINED.decode([5, id])


def test_a_surrogate_is_refused_with_its_place() -> None:
    with pytest.raises(ValueError, match=r"udcff' at position 2 of the text is a surrogate"):
        TRAINED.encode("ab\udcff")


def test_the_alphabet_of_bytes_is_gpt2s() -> None:
    assert gpt2_alphabet() == BYTE_OF_CHARACTER
    assert set(BYTE_OF_CHARACTER) == set(pre_tokenizers.ByteLevel.alphabet())


def merges_of(tokenizer: Tokenizer) -> tuple[list[Pair], dict[bytes, int]]:
    """The merges of a library tokenizer in their order and its vocabulary, both in bytes."""
    model = json.loads(tokenizer.to_json())["model"]
    shown = gpt2_alphabet()

    def in_bytes(token: str) -> bytes:
        return token.encode() if token == END_OF_TEXT else bytes(shown[c] for c in token)

    ids = {in_bytes(token): id for token, id in model["vocab"].items()}
    return [(in_bytes(first), in_bytes(second)) for first, second in model["merges"]], ids


@pytest.fixture(scope="module")
def gpt2() -> Vocabulary:
    """GPT-2's own tokenizer, the rank of each of its merged pairs and the id of each token."""
    tokenizer = Tokenizer.from_gpt2(GPT2_FILES)
    merges, ids = merges_of(tokenizer)
    return tokenizer, {pair: rank for rank, pair in enumerate(merges)}, ids


def beginning(corpus: Path, n_bytes: int) -> str:
    """The first n_bytes bytes of a corpus, without a character that they cut in two."""
    with corpus.open("rb") as file:
        return file.read(n_bytes).decode(errors="ignore")


def test_the_worked_examples_of_byte_pair_encoding_are_true() -> None:
    assert doctest.testmod(module) == (0, 5)


@needs_shared
@pytest.mark.parametrize("corpus", CORPORA, ids=lambda path: path.stem)
def test_merges_written_out_are_the_librarys_on_both_corpora(corpus: Path) -> None:
    text = beginning(corpus, 100_000)
    ranks, ids = learn_merges([text], 320)
    trained = Tokenizer.train([text], 320)
    assert (list(ranks), ids) == merges_of(trained)
    assert list(ranks.values()) == list(range(63))
    assert encode_by_merges(text, ranks, ids) == trained.encode(text)


@needs_shared
@pytest.mark.parametrize("corpus", CORPORA, ids=lambda path: path.stem)
def test_merges_written_out_are_the_librarys_until_no_pair_occurs_twice(corpus: Path) -> None:
    lines = beginning(corpus, 4000).splitlines(keepends=True)
    ranks, ids = learn_merges(iter(lines), 10_000)
    assert (list(ranks), ids) == merges_of(Tokenizer.train(lines, 10_000))
    assert 500 < len(ids) < 10_000


@seeded
@given(st.lists(st.text("ab \n", max_size=40), max_size=5))
@example([END_OF_TEXT, END_OF_TEXT])
def test_ties_between_equally_frequent_pairs_are_decided_as_in_the_library(
    texts: list[str],
) -> None:
    ranks, ids = learn_merges(texts, 275)
    assert (list(ranks), ids) == merges_of(Tokenizer.train(texts, 275))


@needs_shared
@pytest.mark.parametrize("corpus", CORPORA, ids=lambda path: path.stem)
def test_gpt2_ids_by_merges_written_out_are_the_librarys_on_both_corpora(
    corpus: Path, gpt2: Vocabulary
) -> None:
    tokenizer, ranks, ids = gpt2
    text = beginning(corpus, 100_000)
    assert encode_by_merges(text, ranks, ids) == tokenizer.encode(text)


@needs_shared
@seeded
@given(text=texts)
@example(text="I'll say it isn't 12½ times\n\n  as good\u3000\x1c")
def test_gpt2_ids_of_random_text_by_merges_written_out_are_the_librarys(
    gpt2: Vocabulary, text: str
) -> None:
    tokenizer, ranks, ids = gpt2
    assert encode_by_merges(text, ranks, ids) == tokenizer.encode(text)


def test_ids_of_random_strings_by_trained_merges_written_out_are_the_librarys() -> None:
    merges, ids = merges_of(TRAINED)
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    for text in random_strings(1000):
        assert encode_by_merges(text, ranks, ids) == TRAINED.encode(text)


def test_words_are_those_of_gpt2s_encoder_whatever_the_character() -> None:
    """Characters of all scripts, each behind and before a letter, a number, a sign and a space."""
    library = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    shown = gpt2_alphabet()
    rng = random.Random(4)
    characters = [chr(n) for n in (*range(0x3100), *rng.sample(range(0xE000, 0x110000), 10_000))]
    text = "".join(f"a{c}1{c}!{c} {c}" for c in characters)
    expected = [bytes(shown[c] for c in word) for word, _ in library.pre_tokenize_str(text)]
    assert [b"".join(word) for word in split_words(text)] == expected
    assert GPT2_PATTERN == PUBLISHED_PATTERN
