"""Checkpoints: everything that resuming needs, each in a folder that is whole or absent.

    step-000250/tensors.safetensors   weights, optimizer states, random states
    step-000250/checkpoint.json       how far the run has come, and a SHA-256 of each file

A folder is written under a hidden name, synced to the disk and then renamed. Reading one computes
the checksums again: a damaged checkpoint is reported, and the one before is taken. The files hold
tensors and numbers only, never a pickle.
Previous: random_state.py.  Next: sharded_checkpoint.py.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cfg_gpt2 import GPT2Config, require
from gpt2 import GPT2Model
from run_directory.files import sha256, sync
from run_directory.json_file import (
    is_file_name,
    parse_json,
    read_limited,
    shortened,
    validate,
)
from run_directory.lock import require_in_place
from run_directory.paths import explain
from run_directory.weights import write_tensors
from training.guard import GuardState
from training.optimizer import Optimizers
from training.random_state import random_states, set_random_states
from training.training_data import TrainingData

FOLDER = "checkpoints"
RECORD_FILE = "checkpoint.json"
TENSORS_FILE = "tensors.safetensors"
FORMAT = 1  # the version of a checkpoint's files


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """What must be the same from session to session for a run to be resumed."""

    __pydantic_config__ = {"extra": "forbid"}

    model: GPT2Config
    optimizer: str
    tokenizer: str  # SHA-256 of tokenizer.json
    data: str  # SHA-256 of the tokens of both splits
    further: dict[str, str] = field(default_factory=dict)  # of a kind of training, by name

    def require_same(self, here: "RunIdentity", run_dir: Path) -> None:
        """Raises ValueError, naming the first difference, unless `here` is the same identity."""
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
            f"{here.optimizer} cannot continue from its states; leave it, {anew}",
        )
        for name in sorted({*self.further, *here.further}):
            was, is_now = self.further.get(name, "none"), here.further.get(name, "none")
            require(
                was == is_now,
                f"{run_dir} was trained with {name} {was}, and here it is {is_now}; "
                f"put it back, {anew}",
            )


def identity_of(
    model: GPT2Config, optimizer: str, corpus: TrainingData, further: Mapping[str, str]
) -> RunIdentity:
    """Returns the identity of a run of these settings on this corpus."""
    return RunIdentity(
        model=model,
        optimizer=optimizer,
        tokenizer=hashlib.sha256(corpus.tokenizer.to_json().encode()).hexdigest(),
        data=corpus.sha256(),
        further=dict(further),
    )


@dataclass(frozen=True, kw_only=True)
class Record:
    """checkpoint.json: how far the run has come."""

    __pydantic_config__ = {"extra": "forbid"}

    step: int  # optimizer steps that are done
    windows: int  # that were read: the position in the data
    tokens: int  # targets that were learned from
    seconds: float  # that the run took, in all its sessions
    val_loss: float | None  # in the run's units, where the step was evaluated
    micro_batch: int
    micro_batch_asked: int | str | None  # --train.micro-batch when that size was chosen
    guard: GuardState
    identity: RunIdentity
    n_ranks: int = 1  # processes that wrote it
    format_version: int = FORMAT
    files: dict[str, str] = field(default_factory=dict)  # name -> SHA-256

    def to_json(self) -> str:
        """Returns the text of checkpoint.json, which ends with a checksum of its own."""
        values = TypeAdapter(Record).dump_python(self, mode="json")
        if not self.identity.further:
            del values["identity"]["further"]  # so that earlier versions can read it
        return json.dumps(values | {"checksum": checksum_of(values)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Record":
        """Reads what `to_json` returned. Raises ValueError for any other text."""
        values = parse_json(text.encode() if isinstance(text, str) else text, "it")
        if not isinstance(values, dict):
            raise ValueError("it is no record of a checkpoint")
        version = values.get("format_version")
        wrong = f"its format_version is {shortened(str(version))}, this code reads {FORMAT}"
        require(version == FORMAT, wrong)
        stated = values.pop("checksum", None)
        require(checksum_of(values) == stated, "its checksum is another one")
        return validate(Record, values)

    def __post_init__(self) -> None:
        counts = (self.step, self.windows, self.tokens, self.seconds, self.guard.variance)
        sizes = (self.micro_batch, self.n_ranks)
        possible = all(0 <= n < 2**63 for n in counts) and all(1 <= n < 2**63 for n in sizes)
        require(possible, "it has numbers that cannot be")
        require(all(map(is_file_name, self.files)), "it names files of other folders")


def checksum_of(values: dict) -> str:
    """Returns the SHA-256 of values that JSON can hold."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


class Checkpoints:
    """The checkpoints of a run: the last `keep` of them and the best one.

    `report` prints a line about each checkpoint that is passed over.
    """

    def __init__(self, run_dir: Path, keep: int, report: Callable[[str], None]) -> None:
        self.folder, self.keep, self.report = run_dir / FOLDER, keep, report

    def save(self, record: Record, write: Callable[[Path], object]) -> Path:
        """Writes the checkpoint of a step, whole or not at all, and returns its path.

        write(folder) makes its tensor files. Raises OSError where it cannot be written, and
        FileNotFoundError where the run's directory was moved or removed.
        """
        require_in_place(self.folder)
        path = self.folder / f"step-{record.step:06d}"
        temporary = self.folder / f".{path.name}"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            temporary.mkdir(parents=True)
            write(temporary)
            files = {file.name: sha256(file) for file in sorted(temporary.iterdir())}
            text = replace(record, files=files).to_json()
            (temporary / RECORD_FILE).write_text(text, encoding="utf-8")
            for each in (*temporary.iterdir(), temporary):
                sync(each)
            for other in self.paths():
                if step_of(other) >= record.step:  # damaged, or of a past that was rolled back
                    shutil.rmtree(other)
            temporary.rename(path)
            sync(self.folder)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            require_in_place(self.folder)
            reason = explain(OSError(error.errno, error.strerror)) if error.errno else error
            raise OSError(
                f"the checkpoint {path} cannot be written: {reason}; the one before is whole; "
                "after that go on with --resume"
            ) from None
        self.prune()
        return path

    def newest(self, *, good: bool = False) -> tuple[Path, Record]:
        """Returns the newest whole checkpoint; with `good`, one whose step was not skipped.

        Raises FileNotFoundError where there is none, ValueError where none is whole.
        """
        paths = self.paths()
        for path in paths:
            try:
                record = verified(path)
            except (ValueError, OSError) as error:
                reason = " ".join(str(error).split())
                self.report(f"{path} is damaged ({reason}): passing it over")
                continue
            if record.guard.n_bad == 0 or not good:
                return path, record
        if paths and not good:
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

    def paths(self) -> list[Path]:
        """Returns the folders of the checkpoints, the newest first."""
        return paths_in(self.folder)

    def prune(self) -> None:
        """Removes all but the newest checkpoints, the newest good ones and the best."""
        paths = self.paths()
        records = {path: record for path in paths if (record := read_record(path))}
        good = [path for path, record in records.items() if record.guard.n_bad == 0]
        kept = {*paths[:1], *good[: self.keep], best_of(records)}
        for path in set(paths) - kept:
            shutil.rmtree(path)
        self.remove_unfinished()

    def remove_unfinished(self) -> None:
        """Removes what a run that was killed in a save has left."""
        for unfinished in self.folder.glob(".step-*"):
            shutil.rmtree(unfinished)


def paths_in(folder: Path) -> list[Path]:
    """Returns the checkpoints of a run's folder of them, the newest first."""
    paths = [path for path in folder.glob("step-*") if path.is_dir()]
    return sorted(paths, key=step_of, reverse=True)


def best_of(records: Mapping[Path, Record]) -> Path | None:
    """Returns the checkpoint with the lowest validation loss; None where none was evaluated."""
    losses = {path: r.val_loss for path, r in records.items() if r.val_loss is not None}
    return min(losses, key=lambda path: losses[path], default=None)


def has_checkpoint(run_dir: Path) -> bool:
    """Returns whether a run has a checkpoint, whole or not."""
    return any((run_dir / FOLDER).glob("step-*"))


def step_of(path: Path) -> int:
    """Returns the step of a checkpoint's folder: step-000250 -> 250."""
    number = path.name.removeprefix("step-")
    return int(number) if number.isdecimal() else -1


def read_record(path: Path) -> Record | None:
    """Returns a checkpoint's record without reading its files; None where it is damaged."""
    try:
        return Record.from_json(read_limited(path / RECORD_FILE))
    except (ValueError, OSError):
        return None


def verified(path: Path) -> Record:
    """Returns a checkpoint's record. Raises ValueError where a checksum is not as recorded."""
    record = Record.from_json(read_limited(path / RECORD_FILE))
    for name, stated in record.files.items():
        require((path / name).is_file(), f"{name} is missing")
        require(sha256(path / name) == stated, f"{name} has another checksum than recorded")
    return record


# The tensors --------------------------------------------------------------------------------


def tensors_of(model: GPT2Model, optimizers: Optimizers) -> dict[str, Tensor]:
    """Returns, by name and without copies, every tensor that the next step depends on.

    Frozen weights are not among them: a run begins with them, however often it is resumed.
    """
    tensors = {f"model/{name}": weight for name, weight in trained_of(model).items()}
    for name, parameter in model.named_parameters():
        for optimizer in optimizers:
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{name}/{key}"] = value
    return tensors | {f"random/{name}": state for name, state in random_states().items()}


def trained_of(model: GPT2Model) -> dict[str, Tensor]:
    """Returns, by name and without copies, the weights that are trained."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def identity_of_frozen(model: GPT2Model) -> dict[str, str]:
    """Returns the SHA-256 of the weights that are not trained, as an entry of a run's identity.

    A checkpoint does not hold them, and with others the run would be another one.
    """
    digest = hashlib.sha256()
    frozen = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    for name in sorted(frozen):
        digest.update(name.encode())
        digest.update(frozen[name].cpu().flatten().view(torch.uint8).numpy().data)
    return {"frozen weights": digest.hexdigest()} if frozen else {}


def copy_to_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns copies in main memory, which a thread can write while training goes on."""
    return {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def strip_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors whose names begin with a prefix, by their names without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def write_checkpoint(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Writes the tensors of a run of one process."""
    write_tensors(folder / TENSORS_FILE, tensors)


def read_checkpoint(folder: Path, prefix: str = "") -> dict[str, Tensor]:
    """Reads what `write_checkpoint` wrote, or the tensors whose names begin with a prefix.

    Raises ValueError where it cannot be read.
    """
    file = folder / TENSORS_FILE
    try:
        with safe_open(file, framework="pt") as opened:
            names = [name for name in opened.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name: opened.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file} cannot be read: {' '.join(str(error).split())}") from None


def restore(tensors: dict[str, Tensor], model: GPT2Model, optimizers: Optimizers) -> None:
    """Copies tensors that `tensors_of` returned into a model, its optimizers and the generators.

    Raises ValueError where they do not fit.
    """
    states: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, parameter_name, key = name.split("/")
            states.setdefault(parameter_name, {})[key] = tensor
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters() if p.requires_grad}
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
            parameter: {k: v.to(parameter.device) for k, v in states[names[parameter]].items()}
            for parameter in optimizer.parameters
            if names[parameter] in states
        }
    set_random_states(strip_prefix("random/", tensors))
