"""Checkpoints: everything that resuming needs, each in a folder that is whole or absent.

    step-000250/tensors.safetensors   weights, what the optimizers remember, random states
    step-000250/checkpoint.json       how far the run has come, and a SHA-256 of each file

A folder is written under a hidden name, synced to the disk and then renamed. Whoever reads one
computes the checksums again: a damaged checkpoint is said, and the one before is taken. Tensors and
numbers only, never a pickle.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cfg_gpt2 import GPT2Config, require
from gpt2 import GPT2Model
from load_data import Corpus
from run_directory.files import sync
from run_directory.weights import write_tensors
from training.guard import GuardState
from training.optimizer import Optimizers
from training.random_state import random_states, set_random_states

FOLDER = "checkpoints"
RECORD_FILE = "checkpoint.json"
TENSORS_FILE = "tensors.safetensors"
FORMAT = 1  # of a checkpoint's folder
CHUNK = 1 << 24  # bytes that are hashed at a time


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """What must be the same for a run to be gone on with."""

    __pydantic_config__ = {"extra": "forbid"}

    model: GPT2Config
    optimizer: str
    tokenizer: str  # SHA-256 of tokenizer.json
    data: str  # SHA-256 of the tokens of both splits

    def require_same(self, here: "RunIdentity", run_dir: Path) -> None:
        """Raises ValueError, naming the first difference, where a run is not the one `here`."""
        anew = "or start another run with --out"
        for name in ("vocab_size", "context_length", "n_layer", "n_head", "n_embd", "bias"):
            was, is_now = getattr(self.model, name), getattr(here.model, name)
            if name == "vocab_size" and self.tokenizer != here.tokenizer:
                continue  # a consequence; the tokenizer is named below
            require(
                was == is_now,
                f"{run_dir} was trained with {name} {was}, but its config.json says {is_now}; "
                f"put {was} back, {anew}",
            )
        require(
            self.tokenizer == here.tokenizer,
            f"{run_dir} was trained with another tokenizer than its --data.path and "
            f"--data.tokenizer give here; put the text and the vocabulary back, {anew}",
        )
        require(
            self.data == here.data,
            f"the text of {run_dir} has changed since the run began; put it back, {anew}",
        )
        require(
            self.optimizer == here.optimizer,
            f"{run_dir} was trained by --train.optimizer {self.optimizer}, and "
            f"{here.optimizer} cannot go on from what that remembers; leave it, {anew}",
        )


def identity_of(model: GPT2Config, optimizer: str, corpus: Corpus) -> RunIdentity:
    """What a run here is a run of."""
    tokenizer = hashlib.sha256(corpus.tokenizer.to_json().encode()).hexdigest()
    data = corpus.sha256()
    return RunIdentity(model=model, optimizer=optimizer, tokenizer=tokenizer, data=data)


@dataclass(frozen=True, kw_only=True)
class Record:
    """checkpoint.json: how far the run has come."""

    __pydantic_config__ = {"extra": "forbid"}

    step: int  # optimizer steps that are done
    windows: int  # that were read: the position in the data
    tokens: int  # targets that were learned from
    seconds: float  # that the run took, in all its sessions
    val_loss: float | None  # nats a token, where the step was evaluated
    micro_batch: int
    micro_batch_asked: int | str | None  # what --train.micro-batch was when that was chosen
    guard: GuardState
    identity: RunIdentity
    n_ranks: int = 1  # processes that wrote it
    format_version: int = FORMAT
    files: dict[str, str] = field(default_factory=dict)  # name -> SHA-256

    def to_json(self) -> str:
        """The text of checkpoint.json, which ends with a checksum of its own."""
        values = TypeAdapter(Record).dump_python(self, mode="json")
        return json.dumps(values | {"checksum": checksum_of(values)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Reads what `to_json` wrote. Raises ValueError for any other text."""
        values = json.loads(text)
        require(isinstance(values, dict), "it is no record of a checkpoint")
        version = values.get("format_version")
        require(version == FORMAT, f"its format_version is {version}, this code reads {FORMAT}")
        stated = values.pop("checksum", None)
        require(checksum_of(values) == stated, "its checksum is another one")
        return TypeAdapter(Record).validate_json(json.dumps(values), strict=True)


def checksum_of(values: dict) -> str:
    """SHA-256 of values that JSON can hold."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class Checkpoints:
    """The checkpoints of a run: the last `keep` of them and the best one.

    `report` is told, in one line, of a checkpoint that is passed over.
    """

    def __init__(self, run_dir: Path, keep: int, report: Callable[[str], None]) -> None:
        self.folder, self.keep, self.report = run_dir / FOLDER, keep, report

    def save(self, record: Record, write: Callable[[Path], object]) -> Path:
        """The checkpoint of a step, complete or absent; write(folder) makes its tensor files.

        Raises OSError where it cannot be written.
        """
        place = self.folder / f"step-{record.step:06d}"
        aside = self.folder / f".{place.name}"
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir(parents=True)
            write(aside)
            files = {file.name: sha256(file) for file in sorted(aside.iterdir())}
            text = replace(record, files=files).to_json()
            (aside / RECORD_FILE).write_text(text, encoding="utf-8")
            for path in (*aside.iterdir(), aside):
                sync(path)
            for other in self.found():
                if step_of(other) >= record.step:  # damaged, or of a past that was rolled back
                    shutil.rmtree(other)
            aside.rename(place)
            sync(self.folder)
        except OSError as error:
            shutil.rmtree(aside, ignore_errors=True)
            reason = error.strerror or error
            raise OSError(
                f"the checkpoint {place} cannot be written: {reason}; the one before is whole; "
                "make room and go on with --resume"
            ) from None
        self.prune()
        return place

    def newest(self, *, good: bool = False) -> tuple[Path, Record]:
        """The newest checkpoint that is whole; `good`: and not made amid steps not taken.

        Raises FileNotFoundError where there is none, ValueError where none is whole.
        """
        places = self.found()
        for place in places:
            try:
                record = verified(place)
            except (ValueError, OSError) as error:
                reason = str(error) if not isinstance(error, ValidationError) else "not readable"
                self.report(f"{place} is damaged ({' '.join(reason.split())}): passing it over")
                continue
            if record.guard.n_bad == 0 or not good:
                return place, record
        if places and not good:
            raise ValueError(
                f"none of the checkpoints in {self.folder} is whole; start anew with another --out"
            )
        require(
            not any(self.folder.glob("step-*.safetensors")),
            f"{self.folder} holds a checkpoint of an earlier version, which this one cannot go on "
            "from; start another run with --out, or resume it with the version that began it",
        )
        raise FileNotFoundError(
            f"{self.folder} holds no checkpoint to go on from; begin a run with --out"
        )

    def found(self) -> list[Path]:
        """The checkpoints that have been renamed into place, the newest first."""
        places = [path for path in self.folder.glob("step-*") if path.is_dir()]
        return sorted(places, key=step_of, reverse=True)

    def prune(self) -> None:
        """Removes all but the newest ones, the newest good ones and the best."""
        places = self.found()
        records = {place: record for place in places if (record := read_record(place))}
        good = [place for place, record in records.items() if record.guard.n_bad == 0]
        losses = {p: r.val_loss for p, r in records.items() if r.val_loss is not None}
        best = min(losses, key=lambda place: losses[place], default=None)
        kept = {*places[:1], *good[: self.keep], best}
        for place in set(places) - kept:
            shutil.rmtree(place)
        for left in self.folder.glob(".step-*"):  # by a run that was killed while it wrote
            shutil.rmtree(left)


def has_checkpoint(run_dir: Path) -> bool:
    """Tells whether a run has a checkpoint, whole or not."""
    return any((run_dir / FOLDER).glob("step-*"))


def step_of(place: Path) -> int:
    """step-000250 -> 250."""
    number = place.name.removeprefix("step-")
    return int(number) if number.isdecimal() else -1


def read_record(place: Path) -> Record | None:
    """A checkpoint's record, its files unread; None where it is damaged."""
    try:
        return Record.from_json((place / RECORD_FILE).read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return None


def verified(place: Path) -> Record:
    """A checkpoint's record, all checksums computed again. Raises ValueError where one differs."""
    record = Record.from_json((place / RECORD_FILE).read_text(encoding="utf-8"))
    for name, stated in record.files.items():
        require((place / name).is_file(), f"{name} is missing")
        require(sha256(place / name) == stated, f"{name} has another checksum than recorded")
    return record


def sha256(file: Path) -> str:
    """Of the bytes of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


# The tensors --------------------------------------------------------------------------------


def tensors_of(model: GPT2Model, optimizers: Optimizers) -> dict[str, Tensor]:
    """Everything that the next step depends on, but for numbers: no copies."""
    tensors = {f"model/{name}": p.detach() for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for optimizer in optimizers:
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{name}/{key}"] = value
    return tensors | {f"random/{name}": state for name, state in random_states().items()}


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies in main memory, which a thread can write while training goes on."""
    return {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those whose names begin with the prefix, without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def write_checkpoint(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Writes the tensors of one process."""
    write_tensors(folder / TENSORS_FILE, tensors)


def read_checkpoint(folder: Path) -> dict[str, Tensor]:
    """Reads what `write_checkpoint` wrote. Raises ValueError where it cannot be read."""
    file = folder / TENSORS_FILE
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} cannot be read: {' '.join(str(error).split())}") from None


def restore(tensors: dict[str, Tensor], model: GPT2Model, optimizers: Optimizers) -> None:
    """Copies saved tensors back to where `tensors_of` found them.

    Raises ValueError where they do not fit.
    """
    remembered: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, parameter_name, key = name.split("/")
            remembered.setdefault(parameter_name, {})[key] = tensor
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    for parameter, name in names.items():
        saved = tensors.get(f"model/{name}")
        shape = None if saved is None else tuple(saved.shape)
        wrong = f"the checkpoint has {shape or 'nothing'} for {name}, whose shape is "
        require(shape == tuple(parameter.shape), f"{wrong}{tuple(parameter.shape)}")
    with torch.no_grad():
        for parameter, name in names.items():
            parameter.copy_(tensors[f"model/{name}"])
    for optimizer in optimizers:
        optimizer.state = {
            parameter: {k: v.to(parameter.device) for k, v in remembered[names[parameter]].items()}
            for parameter in optimizer.parameters
            if names[parameter] in remembered
        }
    set_random_states(below("random/", tensors))
