"""model.safetensors: the weights of a run, enough for inference, and no pickle.

A model that is about to be loaded is built on the meta device: its parameters have shapes, but
neither memory nor values, until the tensors of the file take their places.
Previous: config_file.py.  Next: ../gpt2.py.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cfg_gpt2 import GPT2Config, RunConfig, require
from run_directory.config_file import CONFIG_FILE, read_config, write_config
from run_directory.files import write_whole
from run_directory.json_file import shortened
from run_directory.paths import require_file

WEIGHTS_FILE = "model.safetensors"

Model = TypeVar("Model", bound=nn.Module)


def save_weights(run_dir: Path, config: GPT2Config, weights: Mapping[str, Tensor]) -> None:
    """Writes model.safetensors, whole or not at all, and config.json where there is none.

    Args:
        run_dir: the run directory, which is created where it does not exist.
        config: the sizes of the model.
        weights: the parameters by name; a tied parameter stands once.
    Raises OSError where a file cannot be written.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    write_tensors(run_dir / WEIGHTS_FILE, {n: t.detach().contiguous() for n, t in weights.items()})
    if not (run_dir / CONFIG_FILE).exists():
        write_config(run_dir, RunConfig(model=config))


def load_model(
    build: Callable[[GPT2Config], Model], run_dir: Path, name: str = WEIGHTS_FILE
) -> Model:
    """Builds a model of a run's sizes and gives it the run's weights: fp32, CPU, dropout off.

    name is that of another file of the run's weights, such as a snapshot's.
    Raises FileNotFoundError where a file is missing, ValueError where it does not fit.
    """
    config, file = read_config(run_dir).model, run_dir / name
    require_file(file, "train first, or name another run")
    try:
        weights = load_file(file)
        require_tensors(weights, config, file)
        with on_meta_device():
            model = build(config)
        assign_weights(model, weights)
    except (SafetensorError, RuntimeError) as error:
        reason = shortened(" ".join(str(error).split()), 300)
        raise ValueError(f"{file} cannot be read: {reason}; copy or train it again") from None
    names = {name for name, _ in model.named_parameters()}
    if names != set(weights):
        examples = shortened(", ".join(sorted(names ^ set(weights))[:3]))
        raise ValueError(f"{file} does not fit {CONFIG_FILE}: {examples} missing or unknown")
    return model.float().eval()


def require_tensors(weights: Mapping[str, Tensor], config: GPT2Config, file: Path) -> None:
    """Raises ValueError where a file has too few tensors for a model, or others than floats."""
    require(
        config.n_layer <= len(weights),
        f"{file} does not fit {CONFIG_FILE}: it has {len(weights)} tensors, too few for "
        f"{config.n_layer} blocks",
    )
    for name, tensor in weights.items():
        wrong = f"{file} cannot be used: {shortened(name)} is {tensor.dtype}, not floating-point"
        require(tensor.is_floating_point(), wrong)


def assign_weights(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Puts tensors in the place of a model's parameters, without a copy.

    Names in which two modules share a parameter (the tied output layer) keep sharing it.
    Raises RuntimeError where a shape differs.
    """
    parameters = {name: nn.Parameter(tensor) for name, tensor in weights.items()}
    first: dict[nn.Parameter, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        tied_to = first.setdefault(parameter, name)
        if tied_to in parameters:
            parameters[name] = parameters[tied_to]
    model.load_state_dict(parameters, strict=False, assign=True)


def write_tensors(
    path: Path, tensors: dict[str, Tensor], header: dict[str, str] | None = None
) -> None:
    """Writes a safetensors file, whole or not at all. Raises OSError where it cannot."""
    try:
        write_whole(path, lambda part: save_file(tensors, part, metadata=header))
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        if number is None:
            raise OSError(f"{path} cannot be written: {error}") from None
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


@contextmanager
def open_tensors(file: Path) -> Iterator[safe_open]:
    """Opens a safetensors file. Raises ValueError, with its name, where it is broken."""
    try:
        with safe_open(file, framework="pt") as tensors:
            yield tensors
    except SafetensorError as error:
        reason = shortened(" ".join(str(error).split()), 300)
        raise ValueError(f"{file} cannot be read: {reason}; copy or train it again") from None


def read_weights(file: Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file in fp32, in memory of their own.

    safetensors maps the whole file, whose pages count as this process's memory once they are read;
    opened anew for each tensor, it takes no more than the largest one. Raises ValueError where the
    file is broken.
    """
    with open_tensors(file) as tensors:
        names = list(tensors.keys())
    weights = {}
    for name in names:
        with open_tensors(file) as tensors:
            weights[name] = tensors.get_tensor(name).to(torch.float32, copy=True)
    return weights


@contextmanager
def on_meta_device() -> Iterator[None]:
    """Inside this context a model is built without memory and without drawing its weights."""
    with torch.device("meta"), SkipInit():
        yield


class SkipInit(TorchFunctionMode):
    """Skips weight initialization; torch would import its compiler to draw on the meta device."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Calls any function as it is, except those that draw weights."""
        draws = func in (nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)
        return None if draws else func(*args, **(kwargs or {}))
