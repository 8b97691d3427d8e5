"""A checkpoint: everything that resuming needs, in one file that is whole or absent.

`checkpoints/step-000250.safetensors` holds the weights, what the optimizers remember of each of
them, the random states, and in its header how far the run has come. The position in the data
needs no place of its own: it is a function of the step. Tensors and numbers only, never a pickle.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from gpt2 import GPT2Model, write_tensors
from training.progress import Metrics

FOLDER = "checkpoints"
Optimizers = list[torch.optim.Optimizer]


def save_checkpoint(
    run_dir: Path, position: Metrics, model: GPT2Model, optimizers: Optimizers
) -> Path:
    """Writes the checkpoint of position["step"] steps, then removes the ones before it."""
    tensors = {f"model/{name}": p.detach() for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for optimizer in optimizers:
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer/{name}/{key}"] = value
    tensors |= {f"random/{name}": state for name, state in random_states().items()}
    header = {key: repr(value) for key, value in position.items()}
    path = run_dir / FOLDER / f"step-{position['step']:06.0f}.safetensors"
    whole = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    write_tensors(path, whole, header)
    for older in set(path.parent.glob("step-*.safetensors")) - {path}:
        older.unlink()
    return path


def load_checkpoint(run_dir: Path, model: GPT2Model, optimizers: Optimizers) -> Metrics:
    """Puts the newest checkpoint into model, optimizers and random states -> the position.

    Raises FileNotFoundError where there is none, ValueError where it does not fit.
    """
    found = sorted((run_dir / FOLDER).glob("step-*.safetensors"))
    if not found:
        raise FileNotFoundError(
            f"{run_dir / FOLDER} holds no checkpoint to resume from; train with --out {run_dir}"
        )
    try:
        with safe_open(found[-1], framework="pt") as file:
            header = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        restore(tensors, model, optimizers)
        return {key: float(value) for key, value in header.items()}
    except (SafetensorError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{found[-1]} cannot be resumed from: {reason}") from None


def restore(tensors: dict[str, Tensor], model: GPT2Model, optimizers: Optimizers) -> None:
    """Copies saved tensors back to where `save_checkpoint` took them from."""
    remembered: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, parameter_name, key = name.split("/")
            remembered.setdefault(parameter_name, {})[key] = tensor
    names = {parameter: name for name, parameter in model.named_parameters()}
    with torch.no_grad():
        for parameter, name in names.items():
            parameter.copy_(tensors[f"model/{name}"])
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                state = remembered.get(names[parameter], {})
                optimizer.state[parameter] = {k: v.to(parameter.device) for k, v in state.items()}
    prefix = "random/"
    set_random_states({n.removeprefix(prefix): t for n, t in tensors.items() if prefix in n})


def random_states() -> dict[str, Tensor]:
    """The states of the generators that dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Tensor]) -> None:
    """Puts back what `random_states` gave."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
