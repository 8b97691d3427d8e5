"""Weights out of a folder that transformers saved, one tensor at a time.

Four forms are read: model.safetensors, its shards with their index, pytorch_model.bin, and its
shards. A safetensors file is mapped anew for each tensor, so that its pages are given back and
memory holds the result and one tensor more. A .bin is a pickle; torch's reader takes tensors
from it and refuses everything else, so that no code in it ever runs.
Previous: config_json.py.  Next: hub.py.
"""

import json
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cfg_gpt2 import GPT2Config, require
from gpt2 import GPT2Model
from pretrained.names import HEAD, MASKS, PREFIX, WeightName, name_table
from run_directory.config_file import CONFIG_FILE
from run_directory.weights import on_meta_device

SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
INDEX = ".index.json"
FORMS = tuple(name + index for name in SINGLE_FILES for index in ("", INDEX))
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
AGAIN = "download or copy it again"


class Weights:
    """The tensors of a folder by their names without "transformer."; take gives each once."""

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError where a file is missing, ValueError where one is broken."""
        self.file = weights_file(folder)
        self._loaded_file: Path | None = None  # the .bin that _loaded is from
        self._loaded: dict[str, Tensor] = {}
        stored = self._read_index() if self.file.name.endswith(INDEX) else self._read_names()
        self.places = {name.removeprefix(PREFIX): (name, file) for name, file in stored.items()}

    def take(self, name: str) -> Tensor:
        """The tensor, as it is stored."""
        stored, file = self.places.pop(name)
        try:
            if file.suffix == ".bin":
                self._load(file)
                return self._loaded.pop(stored)
            with safe_open(file, framework="pt") as tensors:
                return tensors.get_tensor(stored)
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"{file} has no whole {stored}: {error}; {AGAIN}") from None

    def _read_names(self) -> dict[str, Path]:
        if self.file.suffix == ".bin":
            self._load(self.file)
            return dict.fromkeys(self._loaded, self.file)
        try:
            with safe_open(self.file, framework="pt") as tensors:
                return dict.fromkeys(tensors.keys(), self.file)
        except SafetensorError as error:
            raise ValueError(f"{self.file} cannot be read: {error}; {AGAIN}") from None

    def _read_index(self) -> dict[str, Path]:
        stored = read_index(self.file)
        for shard in sorted(set(stored.values())):
            if not (self.file.parent / shard).is_file():
                raise FileNotFoundError(
                    f"{self.file.parent / shard} does not exist, but {self.file.name} names it; "
                    "place it there"
                )
        return {name: self.file.parent / shard for name, shard in stored.items()}

    def _load(self, file: Path) -> None:
        """Makes `file` the .bin whose tensors are in memory."""
        if self._loaded_file == file:
            return
        self._loaded = {}  # before the next shard comes
        try:
            found = torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError:
            raise ValueError(
                f"{file} is a pickle with more than tensors in it and is not opened, "
                "for that could run code; take model.safetensors instead"
            ) from None
        except (RuntimeError, EOFError, ValueError, OSError) as error:
            raise ValueError(f"{file} cannot be read: {first_line(error)}; {AGAIN}") from None
        tensors = isinstance(found, dict) and all(isinstance(t, Tensor) for t in found.values())
        require(tensors, f"{file} is no table of tensors; {AGAIN}")
        self._loaded, self._loaded_file = found, file


def read_index(file: Path) -> dict[str, str]:
    """Which tensor lies in which shard. Raises ValueError where the index does not say so."""
    try:
        places = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
        stored = {str(name): str(shard) for name, shard in places.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{file} has no weight_map; {AGAIN}") from None
    for shard in stored.values():
        # a plain name: an index must not lead out of its folder
        require(Path(shard).name == shard, f"{file} names {shard}, which is no file name")
    return stored


def weights_file(folder: Path) -> Path:
    """The first form that the folder has. Raises FileNotFoundError where it has none."""
    found = next((folder / form for form in FORMS if (folder / form).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"{folder} has no weights; place one there: {', '.join(FORMS)}")
    return found


def read_weights(
    folder: Path, config: GPT2Config, report: Callable[[int, int], None]
) -> dict[str, Tensor]:
    """The weights by our names, in fp32, of a model with exactly these sizes.

    report(done, total) is told how many numbers have been read.
    Raises FileNotFoundError or ValueError for files that are missing, broken or do not fit.
    """
    source, table = Weights(folder), name_table(config.n_layer)
    refuse_unknown(source, table)
    with on_meta_device():
        shapes = {name: p.shape for name, p in GPT2Model(config).named_parameters()}
    total, done = sum(shape.numel() for shape in shapes.values()), 0
    weights: dict[str, Tensor] = {}
    for name in table:
        weights[name.own] = converted(source, name, shapes[name.own])
        if name is table[0] and HEAD in source.places:  # early, while memory is empty
            refuse_untied(source, weights[name.own])
        done += weights[name.own].numel()
        report(done, total)
    return weights


def refuse_unknown(source: Weights, table: list[WeightName]) -> None:
    """Raises ValueError unless the file holds GPT-2's weights and no others."""
    wanted = {name.hugging_face for name in table}
    found = {name for name in source.places if name != HEAD and not MASKS.fullmatch(name)}
    for names, what in ((wanted - found, "is missing"), (found - wanted, "is unknown")):
        if names:
            first, *others = sorted(names)
            more = f" and {len(others)} more" if others else ""
            raise ValueError(
                f"{source.file} does not fit {CONFIG_FILE}: {first}{more} {what}; "
                "place files that belong together"
            )


def refuse_untied(source: Weights, embedding: Tensor) -> None:
    """Raises ValueError unless the output layer is the token embedding once more."""
    head = source.take(HEAD)
    tied = head.shape == embedding.shape and bool((head == embedding).all())
    require(tied, f"{source.file}: {HEAD} is not wte.weight; GPT-2's output layer is tied")


def converted(source: Weights, name: WeightName, shape: torch.Size) -> Tensor:
    """The tensor in our shape, in fp32. Raises ValueError for another shape or dtype."""
    tensor = source.take(name.hugging_face)
    require(
        tensor.dtype in DTYPES,
        f"{source.file}: {name.hugging_face} is {tensor.dtype}; fp32, fp16 and bf16 are read",
    )
    stored_shape = tuple(reversed(shape)) if name.turned else tuple(shape)
    require(
        tuple(tensor.shape) == stored_shape,
        f"{source.file}: {name.hugging_face} is {tuple(tensor.shape)}, but by {CONFIG_FILE} it is "
        f"{stored_shape}; place files that belong together",
    )
    # what fits as it is stays in the mapped file, and is copied by none
    return (tensor.T if name.turned else tensor).float().contiguous()


def first_line(error: Exception) -> str:
    """torch's messages go on with advice to unpickle after all."""
    return (str(error) or type(error).__name__).partition("\n")[0]
