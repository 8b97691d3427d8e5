"""`train --init-from RUN`: a new run begins with the weights, tokenizer and sizes of another.

Optimizer, schedule, step count and data are the new run's own, as with nanoGPT's init_from. The
context may be shorter than RUN's, not longer: there is no trained embedding for later positions.
Previous: train_settings.py.  Next: resume.py.
"""

from dataclasses import replace
from pathlib import Path

from cfg_gpt2 import GPT2Config, InitFrom, require
from gpt2 import GPT2Model
from load_data import Corpus
from run_directory.files import sha256
from run_directory.paths import require_file
from run_directory.printable import quoted
from run_directory.weights import WEIGHTS_FILE, assign_weights, on_meta_device
from tokenizer import Tokenizer

LEAST_BYTES_PER_TOKEN = 1.5  # below it a vocabulary was trained on a text of another kind


def require_tokenizer_of(run: Path, corpus: Corpus) -> None:
    """Raises ValueError unless the corpus is in the tokens that a run's weights were trained on."""
    require(
        corpus.tokenizer.to_json() == Tokenizer.load(run).to_json(),
        f"the text is in another tokenizer's tokens than {run} was trained on; leave out "
        f"--data.tokenizer, or prepare the text with --data.tokenizer {quoted(run)}",
    )


def fit_of_tokenizer(run: Path, corpus: Corpus) -> str | None:
    """Returns a warning where a run's tokenizer needs a token for almost every byte of the text."""
    bytes_per_token = corpus.train.n_bytes / len(corpus.train.tokens)
    if bytes_per_token >= LEAST_BYTES_PER_TOKEN or corpus.tokenizer.is_by_character:
        return None
    return (
        f"the tokenizer of {run} hardly fits this text: {bytes_per_token:.1f} bytes per token; "
        "a run without --init-from trains a tokenizer on the text itself"
    )


def origin_of(run: Path, flag: str = "--init-from:") -> InitFrom:
    """Returns what config.json records of the run that another begins from.

    flag is the one that named it, for errors.
    """
    file = run / WEIGHTS_FILE
    require_file(file, "name a finished run", flag)
    return InitFrom(run=str(run), weights_sha256=sha256(file))


def require_unchanged(origin: InitFrom) -> None:
    """Raises an error where the run's weights have changed since they were recorded, or are gone.

    It is ValueError or FileNotFoundError.
    """
    advice = "put it back, or call main.py in the folder where this run began"
    require_file(Path(origin.run) / WEIGHTS_FILE, advice, "the base's")
    require(
        origin_of(Path(origin.run), "") == origin,
        f"the weights of {origin.run} have changed since this run began from them; "
        "begin another run from them",
    )


def initial_model(config: GPT2Config, run: str) -> GPT2Model:
    """Returns a model of the given sizes with the weights of a run, ready to be trained."""
    base = GPT2Model.load(run)
    weights = {name: parameter.detach() for name, parameter in base.named_parameters()}
    positions = weights["position_embedding.weight"]  # (S, C)
    weights["position_embedding.weight"] = positions[: config.context_length].clone()
    with on_meta_device():
        model = GPT2Model(replace(config, vocab_size=base.config.vocab_size))
    assign_weights(model, weights)
    return model


def weights_left_out(config: Path) -> str | None:
    """Returns a line where --config names a run, of which it takes the settings only."""
    run = config if config.is_dir() else config.parent
    if not (run / WEIGHTS_FILE).is_file():
        return None
    return (
        f"weights   random: --config takes the settings of {run} and not its weights; "
        f"--init-from {run} begins with them"
    )
