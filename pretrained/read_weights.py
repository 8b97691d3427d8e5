"""Reading weights from a folder that transformers saved, one tensor at a time.

Four forms are read: model.safetensors, its shards with their index, pytorch_model.bin, and its
shards. A safetensors file is memory-mapped again for each tensor, so that its pages are freed and
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
from pretrained.names import LM_HEAD, MASK_BUFFERS, PREFIX, WeightName, name_table
from run_directory.config_file import CONFIG_FILE
from run_directory.weights import on_meta_device

SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
INDEX = ".index.json"
FORMS = tuple(name + index for name in SINGLE_FILES for index in ("", INDEX))
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
DOWNLOAD_AGAIN = "download or copy it again"


class StoredWeights:
    """The tensors of a folder, by their names without "transformer."; each can be taken once."""

    def __init__(self, folder: Path) -> None:
        """Lists the tensors of a folder.

        Raises FileNotFoundError where a file is missing, ValueError where one is broken.
        """
        self.file = weights_file(folder)
        self._loaded_file: Path | None = None  # the .bin that _loaded is from
        self._loaded: dict[str, Tensor] = {}
        stored = self._read_index() if self.file.name.endswith(INDEX) else self._read_names()
        self.locations = {name.removeprefix(PREFIX): (name, file) for name, file in stored.items()}

    def take(self, name: str) -> Tensor:
        """Removes a tensor from the table and returns it as it is stored."""
        stored, file = self.locations.pop(name)
        try:
            if file.suffix == ".bin":
                self._load(file)
                return self._loaded.pop(stored)
            with safe_open(file, framework="pt") as tensors:
                return tensors.get_tensor(stored)
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"{file} has no whole {stored}: {error}; {DOWNLOAD_AGAIN}") from None

    def _read_names(self) -> dict[str, Path]:
        """Returns the tensors' names in a single file, each with that file."""
        if self.file.suffix == ".bin":
            self._load(self.file)
            return dict.fromkeys(self._loaded, self.file)
        try:
            with safe_open(self.file, framework="pt") as tensors:
                return dict.fromkeys(tensors.keys(), self.file)
        except SafetensorError as error:
            raise ValueError(f"{self.file} cannot be read: {error}; {DOWNLOAD_AGAIN}") from None

    def _read_index(self) -> dict[str, Path]:
        """Returns the tensors' names in an index, each with its shard."""
        stored = read_index(self.file)
        for shard in sorted(set(stored.values())):
            if not (self.file.parent / shard).is_file():
                raise FileNotFoundError(
                    f"{self.file.parent / shard} does not exist, but {self.file.name} names it; "
                    "place it there"
                )
        return {name: self.file.parent / shard for name, shard in stored.items()}

    def _load(self, file: Path) -> None:
        """Reads the tensors of a .bin into memory, in place of those of another one."""
        if self._loaded_file == file:
            return
        self._loaded = {}  # frees the memory before the next shard is read
        try:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError:
            raise ValueError(
                f"{file} is a pickle with more than tensors in it and is not opened, "
                "for that could run code; take model.safetensors instead"
            ) from None
        except (RuntimeError, EOFError, ValueError, OSError) as error:
            raise ValueError(
                f"{file} cannot be read: {first_line(error)}; {DOWNLOAD_AGAIN}"
            ) from None
        tensors = isinstance(loaded, dict) and all(isinstance(t, Tensor) for t in loaded.values())
        require(tensors, f"{file} is no table of tensors; {DOWNLOAD_AGAIN}")
        self._loaded, self._loaded_file = loaded, file


def read_index(file: Path) -> dict[str, str]:
    """Returns the shard of each tensor. Raises ValueError where the index does not say it."""
    try:
        weight_map = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
        stored = {str(name): str(shard) for name, shard in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{file} has no weight_map; {DOWNLOAD_AGAIN}") from None
    for shard in stored.values():
        # a plain name, because an index must not point outside its folder
        require(Path(shard).name == shard, f"{file} names {shard}, which is no file name")
    return stored


def weights_file(folder: Path) -> Path:
    """Returns the file of the first form that the folder has.

    Raises FileNotFoundError where it has none.
    """
    file = next((folder / form for form in FORMS if (folder / form).is_file()), None)
    if file is None:
        raise FileNotFoundError(f"{folder} has no weights; place one there: {', '.join(FORMS)}")
    return file


def read_weights(
    folder: Path, config: GPT2Config, report: Callable[[int, int], None]
) -> dict[str, Tensor]:
    """Reads the weights of a model of exactly these sizes, in fp32, under this project's names.

    report(done, total) is called with the count of numbers that have been read.
    Raises FileNotFoundError or ValueError for files that are missing, broken or do not fit.
    """
    source, table = StoredWeights(folder), name_table(config.n_layer)
    require_same_names(source, table)
    with on_meta_device():
        shapes = {name: p.shape for name, p in GPT2Model(config).named_parameters()}
    total, done = sum(shape.numel() for shape in shapes.values()), 0
    weights: dict[str, Tensor] = {}
    for name in table:
        weights[name.own] = read_weight(source, name, shapes[name.own])
        if name is table[0] and LM_HEAD in source.locations:  # early, while little memory is in use
            require_tied_head(source, weights[name.own])
        done += weights[name.own].numel()
        report(done, total)
    return weights


def require_same_names(source: StoredWeights, table: list[WeightName]) -> None:
    """Raises ValueError unless the files hold GPT-2's weights and no others."""
    expected = {name.hugging_face for name in table}
    stored = {name for name in source.locations if not MASK_BUFFERS.fullmatch(name)} - {LM_HEAD}
    for names, what in ((expected - stored, "is missing"), (stored - expected, "is unknown")):
        if names:
            first, *others = sorted(names)
            more = f" and {len(others)} more" if others else ""
            raise ValueError(
                f"{source.file} does not fit {CONFIG_FILE}: {first}{more} {what}; "
                "place files that belong together"
            )


def require_tied_head(source: StoredWeights, embedding: Tensor) -> None:
    """Raises ValueError unless the output layer equals the token embedding."""
    head = source.take(LM_HEAD)
    tied = head.shape == embedding.shape and bool((head == embedding).all())
    require(tied, f"{source.file}: {LM_HEAD} is not wte.weight; GPT-2's output layer is tied")


def read_weight(source: StoredWeights, name: WeightName, shape: torch.Size) -> Tensor:
    """Returns a tensor in fp32 and in this project's shape.

    Raises ValueError where it is stored in another shape or dtype.
    """
    tensor = source.take(name.hugging_face)
    require(
        tensor.dtype in DTYPES,
        f"{source.file}: {name.hugging_face} is {tensor.dtype}; fp32, fp16 and bf16 are read",
    )
    stored_shape = tuple(reversed(shape)) if name.transposed else tuple(shape)
    require(
        tuple(tensor.shape) == stored_shape,
        f"{source.file}: {name.hugging_face} is {tuple(tensor.shape)}, but by {CONFIG_FILE} it is "
        f"{stored_shape}; place files that belong together",
    )
    # a tensor that needs no change stays in the mapped file and is not copied
    return (tensor.T if name.transposed else tensor).float().contiguous()


def first_line(error: Exception) -> str:
    """Returns the first line of an error; torch's further lines advise to unpickle after all."""
    return (str(error) or type(error).__name__).partition("\n")[0]
