"""What a folder of transformers says about its tokens: their ids, and which ends a text.

    tokenizer.json, or vocab.json and merges.txt    the vocabulary
    token_settings.py's three files                 added and special tokens
    generation_config.json, else config.json        the ids that begin and end a text

The rules are those of transformers 5, so that ids and ends are the same. What they would read
otherwise than it is written, for instance an added token with a hole before its id, is refused.
Previous: token_settings.py.  Next: folder_chat.py.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, pre_tokenizers
from tokenizers import Tokenizer as Library

from cfg_gpt2 import require
from pretrained.config_json import Json, ParsedConfig
from pretrained.token_settings import (
    ADDED_TOKENS_FILE,
    GPT2_CLASSES,
    PLAIN_CLASSES,
    TOKENIZER_CONFIG_FILE,
    TokenSettings,
    read_token_settings,
)
from pretrained.vocabulary import splits_as_gpt2
from run_directory.config_file import CONFIG_FILE
from run_directory.generation_config import GENERATION_CONFIG_FILE, GenerationTokens, token_ids
from run_directory.json_file import quoted, read_json_object, shortened
from run_directory.vocabulary import (
    TOKENIZER_FILE,
    open_vocabulary,
    require_dense_ids,
    require_round_trip,
    vocabulary_files,
)
from tokenizer import END_OF_TEXT, Tokenizer

FLAGS = {  # key of generation_config.json -> the flag of main.py generate that does the same
    "temperature": "--temperature",
    "top_k": "--top-k",
    "top_p": "--top-p",
    "min_p": "--min-p",
    "repetition_penalty": "--repetition-penalty",
    "no_repeat_ngram_size": "--no-repeat-ngram",
    "num_beams": "--beams",
    "length_penalty": "--length-penalty",
    "max_new_tokens": "--max-new-tokens",
    "min_new_tokens": "--min-new-tokens",
}
DRAWING = ("temperature", "top_k", "top_p", "min_p")  # without do_sample they do nothing
N_LISTED = 5  # tokens that a line names, at most


@dataclass(frozen=True)
class FolderTokens:
    """A folder's tokenizer, the ids that begin and end its texts, and what is not taken over."""

    tokenizer: Tokenizer
    generation: GenerationTokens
    notes: list[str]


def read_folder_tokens(folder: Path, config: ParsedConfig) -> FolderTokens:
    """Reads a folder's tokenizer and the ids that begin and end its texts.

    Raises FileNotFoundError where there is no vocabulary, ValueError where it is broken, loses
    text, or does not fit the model's embedding.
    """
    settings = read_token_settings(folder, config.settings)
    library, notes = read_library(folder, settings, config.model.vocab_size)
    file = folder / GENERATION_CONFIG_FILE
    generation = read_json_object(file) if file.is_file() else config.settings
    file = file if file.is_file() else folder / CONFIG_FILE
    named = token_ids(generation, "eos_token_id", file)
    ends = tuple(id for id in named if id < config.model.vocab_size)
    if not ends:
        notes.append(
            f"ends      {file.name} names no id of the model as eos_token_id: a text ends by "
            "--max-new-tokens, --stop or --stop-tokens only"
        )
    end_of_text = choose_end_of_text(folder, library, ends, settings)
    try:
        tokenizer = Tokenizer(library, end_of_text)
        require_round_trip(library, tokenizer)
    except ValueError as error:
        raise ValueError(f"{vocabulary_files(folder)[0]} cannot be used: {error}") from None
    begins = token_ids(generation, "bos_token_id", file)
    begin = begins[0] if begins and begins[0] < config.model.vocab_size else tokenizer.end_of_text
    return FolderTokens(
        tokenizer=tokenizer,
        generation=GenerationTokens(begin, ends),
        notes=[*notes, *flag_notes(generation, file)],
    )


# The vocabulary -------------------------------------------------------------------------------


def read_library(
    folder: Path, settings: TokenSettings, vocab_size: int
) -> tuple[Library, list[str]]:
    """Returns a tokenizer of the library with all added tokens that the model has embeddings for.

    With it come lines about what is otherwise than in transformers.
    """
    files = vocabulary_files(folder)
    library = open_vocabulary(*files)
    try:
        require_dense_ids(library)
    except ValueError as error:
        raise ValueError(f"{files[0]} cannot be used: {error}") from None
    require_known_class(files, library, settings)
    for id, token in settings.added.items():
        add_token(library, token)
        added = library.token_to_id(token.content)
        require(
            added == id,
            f"{folder}: {quoted(token.content)} has id {id} in {TOKENIZER_CONFIG_FILE} or "
            f"{ADDED_TOKENS_FILE}, but the library gives it {added}, the first that is free; "
            "give the added tokens the ids behind the vocabulary, without a hole",
        )
    for token in settings.special:
        if token.content not in added_contents(library):
            add_token(library, token)
    library, left_out = without_tokens_from(library, vocab_size)
    left_out = [token for token in left_out if token != END_OF_TEXT]
    notes = [f"tokens    {listed(left_out)} left out: the model has no embedding for it"]
    return library, (notes if left_out else []) + template_notes(library, settings)


def require_known_class(files: list[Path], library: Library, settings: TokenSettings) -> None:
    """Raises ValueError where transformers reads the vocabulary otherwise than it is written."""
    file, name = files[0], settings.tokenizer_class
    if file.name == TOKENIZER_FILE:
        description = json.loads(library.to_str())
        is_gpt2 = splits_as_gpt2(description["pre_tokenizer"])
        require(
            is_gpt2 or name not in GPT2_CLASSES or description["model"]["type"] != "BPE",
            f"{file} splits words in a way of its own, but transformers 5 splits them as GPT-2 "
            f"does, for {TOKENIZER_CONFIG_FILE} names no other class; write "
            '"tokenizer_class": "PreTrainedTokenizerFast" into it to keep the way of its own',
        )
    else:
        require(
            name in (*GPT2_CLASSES, *PLAIN_CLASSES),
            f"{file} is a vocabulary of {shortened(str(name))}, which has rules of its own; "
            f"write a {TOKENIZER_FILE} by transformers: "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)",
        )
    require(
        not settings.add_prefix_space or name not in GPT2_CLASSES,
        f"{file.parent / TOKENIZER_CONFIG_FILE}: add_prefix_space true puts a space before each "
        "text, so that 'a' and ' a' become the same; set it to false",
    )


def add_token(library: Library, token: AddedToken) -> None:
    """Adds a token behind the vocabulary, or marks one of the vocabulary as added."""
    if token.special:
        library.add_special_tokens([token])
    else:
        library.add_tokens([token])


def added_contents(library: Library) -> set[str]:
    """Returns the texts of all added tokens."""
    return {token.content for token in library.get_added_tokens_decoder().values()}


def without_tokens_from(library: Library, vocab_size: int) -> tuple[Library, list[str]]:
    """Returns a tokenizer without the added tokens from an id on, and the texts of these."""
    description: Json = json.loads(library.to_str())
    tokens = description["added_tokens"]
    assert isinstance(tokens, list)
    beyond = [token["content"] for token in tokens if token["id"] >= vocab_size]
    if not beyond:
        return library, []
    description["added_tokens"] = [token for token in tokens if token["id"] < vocab_size]
    return Library.from_str(json.dumps(description)), beyond


def template_notes(library: Library, settings: TokenSettings) -> list[str]:
    """Returns a line where transformers puts special tokens around every text."""
    if library.post_processor is None and not settings.adds_tokens:
        return []
    around = library.encode("", add_special_tokens=True).tokens
    names = listed(around) if around else "special tokens"
    if not around and not settings.adds_tokens:
        return []
    return [
        f"prompts   transformers puts {names} around every text, which is left to you here: "
        "generate --special-tokens reads them in a prompt"
    ]


def listed(tokens: list[str]) -> str:
    """Returns the first tokens as one phrase."""
    more = f" and {len(tokens) - N_LISTED} more" if len(tokens) > N_LISTED else ""
    return ", ".join(map(shortened, tokens[:N_LISTED])) + more


# Ends and flags -------------------------------------------------------------------------------


def choose_end_of_text(
    folder: Path, library: Library, ends: tuple[int, ...], settings: TokenSettings
) -> str:
    """Returns the token that stands between documents: the first end that no text contains.

    Raises ValueError where there is none.
    """
    names = [library.id_to_token(id) for id in ends]
    names += [settings.eos_token, END_OF_TEXT]
    ordinary = ordinary_tokens(library)
    for name in names:
        if name is not None and library.token_to_id(name) is not None and name not in ordinary:
            return name
    raise ValueError(
        f"{folder} names no token that ends a text; write its id as eos_token_id into {CONFIG_FILE}"
    )


def ordinary_tokens(library: Library) -> set[str]:
    """Returns the tokens that a text can become: in BPE the bytes and what merges make of them."""
    model: Json = json.loads(library.to_str())["model"]
    merges, vocabulary = model.get("merges"), model.get("vocab")
    if not isinstance(merges, list):
        assert isinstance(vocabulary, dict)
        return {token for token in vocabulary if len(token) == 1}
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
    return {"".join(pair) for pair in pairs}.union(pre_tokenizers.ByteLevel.alphabet())


def flag_notes(generation: Json, file: Path) -> list[str]:
    """Returns a line with the flags that choose tokens as generation_config.json asks for it."""
    if file.name != GENERATION_CONFIG_FILE:
        return []
    flags = [
        f"{flag} {shortened(str(generation[key]))}"
        for key, flag in FLAGS.items()
        if type(generation.get(key)) in (int, float)
        and (key not in DRAWING or generation.get("do_sample") is True)
    ]
    if not flags:
        return []
    return [f"sampling  {file.name} asks for: main.py generate {' '.join(flags)}"]
