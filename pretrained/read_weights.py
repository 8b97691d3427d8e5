"""Reading weights from a folder that transformers saved, one tensor at a time.

Four forms are read: model.safetensors, its shards with their index, pytorch_model.bin, and its
shards. Names may have any prefix, and the tied weight may stand under either of its two names or
under both. A safetensors file is memory-mapped again for each tensor, so that its pages are freed
and memory holds the result and one tensor more; bin_file.py reads a .bin.
Previous: bin_file.py.  Next: token_settings.py.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cfg_gpt2 import GPT2Config, require
from gpt2 import GPT2Model
from pretrained.bin_file import DOWNLOAD_AGAIN, load_bin
from pretrained.config_json import SIZE_KEYS
from pretrained.names import EMBEDDING, LM_HEAD, MASK_BUFFERS, WeightName, name_table
from run_directory.config_file import CONFIG_FILE
from run_directory.json_file import is_file_name, read_json_object, shortened
from run_directory.weights import on_meta_device

SINGLE_FILES = ("model.safetensors", "pytorch_model.bin")
INDEX = ".index.json"
FORMS = tuple(name + index for name in SINGLE_FILES for index in ("", INDEX))
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
FIRST_NORM = "h.0.ln_1.weight"  # in every GPT-2: what stands before it is the prefix of all names
LFS_POINTER = b"version https://git-lfs"  # what git clone leaves where Git LFS is not installed
TOGETHER = "place files that belong together"
Location = tuple[str, Path]  # the name of a tensor as it is stored, and its file


class StoredWeights:
    """The tensors of a folder, by their names without a prefix; each can be taken once."""

    def __init__(self, folder: Path) -> None:
        """Lists the tensors of a folder.

        Raises FileNotFoundError where a file is missing, ValueError where one is broken.
        """
        self.file = weights_file(folder)
        self._loaded_file: Path | None = None  # the .bin that _loaded is from
        self._loaded: dict[str, Tensor] = {}
        stored = self._read_index() if self.file.name.endswith(INDEX) else self._read_names()
        self.locations: dict[str, Location] = {}
        for name, plain in without_prefix(stored).items():
            require(
                plain not in self.locations, f"{self.file} has {shortened(plain)} twice; {TOGETHER}"
            )
            self.locations[plain] = (name, stored[name])
        if EMBEDDING not in self.locations and LM_HEAD in self.locations:
            self.locations[EMBEDDING] = self.locations.pop(LM_HEAD)

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a tensor that has not been taken, as it is stored."""
        stored, file = self.locations[name]
        try:
            if file.suffix == ".bin":
                return tuple(self._bin(file)[stored].shape)
            with safe_open(file, framework="pt") as tensors:
                return tuple(tensors.get_slice(stored).get_shape())
        except (SafetensorError, KeyError) as error:
            raise broken(f"{file} has no whole {shortened(stored)}", error) from None

    def take(self, name: str) -> Tensor:
        """Removes a tensor from the table and returns it as it is stored."""
        stored, file = self.locations.pop(name)
        try:
            if file.suffix == ".bin":
                return self._bin(file).pop(stored)
            with safe_open(file, framework="pt") as tensors:
                return tensors.get_tensor(stored)
        except (SafetensorError, KeyError) as error:
            raise broken(f"{file} has no whole {shortened(stored)}", error) from None

    def _read_names(self) -> dict[str, Path]:
        """Returns the tensors' names in a single file, each with that file."""
        require_no_pointer(self.file)
        if self.file.suffix == ".bin":
            return dict.fromkeys(self._bin(self.file), self.file)
        try:
            with safe_open(self.file, framework="pt") as tensors:
                return dict.fromkeys(tensors.keys(), self.file)
        except SafetensorError as error:
            raise broken(f"{self.file} cannot be read", error) from None

    def _read_index(self) -> dict[str, Path]:
        """Returns the tensors' names in an index, each with its shard."""
        stored = read_index(self.file)
        for shard in sorted(set(stored.values())):
            if not (self.file.parent / shard).is_file():
                raise FileNotFoundError(
                    f"{self.file.parent / shard} does not exist, but {self.file.name} names it; "
                    "place it there"
                )
            require_no_pointer(self.file.parent / shard)
        return {name: self.file.parent / shard for name, shard in stored.items()}

    def _bin(self, file: Path) -> dict[str, Tensor]:
        """Returns the tensors of a .bin; only those of one file are in memory."""
        if self._loaded_file != file:
            self._loaded, self._loaded_file = {}, None  # frees the memory before the next shard
            self._loaded, self._loaded_file = load_bin(file), file
        return self._loaded


def broken(what: str, error: Exception) -> ValueError:
    """Returns the error of a file of weights that is not whole."""
    return ValueError(f"{what}: {shortened(str(error))}; {DOWNLOAD_AGAIN}")


def without_prefix(names: Iterable[str]) -> dict[str, str]:
    """Returns each name with the name that remains of it without the prefix of GPT-2's weights.

    The prefix is "transformer." for GPT2LMHeadModel and "" for GPT2Model; wrappers such as
    torch.compile, DistributedDataParallel and Lightning put their own before it.
    """
    plain = {name: name for name in names}
    anchors = [name for name in plain if ("." + name).endswith("." + FIRST_NORM)]
    if anchors:
        prefixes = [anchor.removesuffix(FIRST_NORM) for anchor in anchors]
        prefix = max(prefixes, key=lambda prefix: sum(n.startswith(f"{prefix}h.") for n in plain))
        plain = {name: name.removeprefix(prefix) for name in plain}
    for name in plain:
        if ("." + name).endswith("." + LM_HEAD):
            plain[name] = LM_HEAD
    return plain


def require_no_pointer(file: Path) -> None:
    """Raises ValueError for a file that only names its contents, which Git LFS has not fetched."""
    with file.open("rb") as opened:
        begin = opened.read(len(LFS_POINTER))
    require(
        begin != LFS_POINTER,
        f"{file} is a Git LFS pointer, not the weights; fetch them by git lfs pull",
    )


def read_index(file: Path) -> dict[str, str]:
    """Returns the shard of each tensor. Raises ValueError where the index does not say it."""
    weight_map = read_json_object(file).get("weight_map")
    require(isinstance(weight_map, dict), f"{file} has no weight_map; {DOWNLOAD_AGAIN}")
    assert isinstance(weight_map, dict)
    stored = {str(name): str(shard) for name, shard in weight_map.items()}
    for shard in stored.values():
        plain = is_file_name(shard) and shard.endswith((".safetensors", ".bin"))
        require(plain, f"{file} names {shortened(shard)}, which is no file name of a shard")
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
    folder: Path, config: GPT2Config, report: Callable[[int, int], None], *, tied: bool = True
) -> dict[str, Tensor]:
    """Reads the weights of a model of exactly these sizes, in fp32, under this project's names.

    report(done, total) is called with the count of numbers that have been read. tied is what
    config.json says of the output layer; where it says no, a stored one must be equal.
    Raises FileNotFoundError or ValueError for files that are missing, broken or do not fit.
    """
    source = StoredWeights(folder)
    require_same_sizes(source, config)
    table = name_table(config.n_layer)
    require_same_names(source, table)
    require(
        tied or LM_HEAD in source.locations,
        f"{folder / CONFIG_FILE} cannot be used: tie_word_embeddings false is an output layer of "
        f"its own, and {source.file.name} has none",
    )
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


def require_same_sizes(source: StoredWeights, config: GPT2Config) -> None:
    """Raises ValueError where config.json names more blocks or embeddings than are stored.

    A table of names or a model of the sizes in config.json is made only after this.
    """
    blocks = {int(i) for i in re.findall(r"^h\.(\d{1,9})\.", "\n".join(source.locations), re.M)}
    require(
        config.n_layer <= len(blocks),
        f"{source.file} does not fit {CONFIG_FILE}: n_layer is {config.n_layer}, and weights of "
        f"{len(blocks)} blocks are stored; {TOGETHER}",
    )
    for name, field in ((EMBEDDING, "vocab_size"), ("wpe.weight", "context_length")):
        size = getattr(config, field)
        if name in source.locations:
            shape = source.shape(name)
            require(
                shape == (size, config.n_embd),
                f"{source.file}: {name} is {shape}, but by {CONFIG_FILE} it is "
                f"{(size, config.n_embd)}, {SIZE_KEYS[field]} by n_embd; {TOGETHER}",
            )


def require_same_names(source: StoredWeights, table: list[WeightName]) -> None:
    """Raises ValueError unless the files hold GPT-2's weights and no others."""
    expected = {name.hugging_face for name in table}
    stored = {name for name in source.locations if not MASK_BUFFERS.fullmatch(name)} - {LM_HEAD}
    for names, what in ((expected - stored, "is missing"), (stored - expected, "is unknown")):
        if names:
            first, *others = sorted(names)
            more = f" and {len(others)} more" if others else ""
            raise ValueError(
                f"{source.file} does not fit {CONFIG_FILE}: {shortened(first)}{more} {what}; "
                f"{TOGETHER}"
            )


def require_tied_head(source: StoredWeights, embedding: Tensor) -> None:
    """Raises ValueError unless the output layer equals the token embedding."""
    head = source.take(LM_HEAD)
    tied = head.shape == embedding.shape and bool((head == embedding).all())
    require(tied, f"{source.file}: {LM_HEAD} is not wte.weight; GPT-2's output layer is tied")


def read_weight(source: StoredWeights, name: WeightName, shape: torch.Size) -> Tensor:
    """Returns a tensor in fp32 and in this project's shape.

    Raises ValueError where it is stored in another shape or dtype, or is not finite.
    """
    stored_shape = tuple(reversed(shape)) if name.transposed else tuple(shape)
    shape_on_disk = source.shape(name.hugging_face)
    require(
        shape_on_disk == stored_shape,
        f"{source.file}: {name.hugging_face} is {shape_on_disk}, but by {CONFIG_FILE} it is "
        f"{stored_shape}; {TOGETHER}",
    )
    tensor = source.take(name.hugging_face)
    require(
        tensor.dtype in DTYPES,
        f"{source.file}: {name.hugging_face} is {tensor.dtype}; fp32, fp16, bf16 and fp64 are read",
    )
    # a tensor that needs no change stays in the mapped file and is not copied
    weight = (tensor.T if name.transposed else tensor).float().contiguous()
    require(
        all_finite(weight),
        f"{source.file}: {name.hugging_face} has numbers that are NaN or infinite in fp32; "
        "take weights from before the training diverged",
    )
    return weight


def all_finite(weight: Tensor) -> bool:
    """Tells whether no number is NaN or infinite, in one pass without a copy."""
    lowest, highest = weight.aminmax()
    return bool(lowest.isfinite() & highest.isfinite())
