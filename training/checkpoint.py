"""A checkpoint: everything that resuming needs, in one file that is whole or absent.

`checkpoints/step-000250.safetensors` holds the weights, AdamW's two moments of each of them, the
random states, and in its header the step and the seconds spent. The position in the data needs
no place of its own: it is a function of the step. Tensors and numbers only, never a pickle.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gpt2 import write_tensors

FOLDER = "checkpoints"


def save_checkpoint(
    run_dir: Path, step: int, seconds: float, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Path:
    """Writes the checkpoint of `step` finished steps, then removes the ones before it."""
    tensors = {f"model/{name}": p.detach() for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer/{name}/{key}"] = value
    tensors |= {f"random/{name}": state for name, state in random_states().items()}
    header = {"step": str(step), "seconds": repr(seconds)}
    path = run_dir / FOLDER / f"step-{step:06d}.safetensors"
    whole = {name: t.cpu().contiguous() for name, t in tensors.items()}
    write_tensors(path, whole, header)
    for older in set(path.parent.glob("step-*.safetensors")) - {path}:
        older.unlink()
    return path


def load_checkpoint(
    run_dir: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Puts the newest checkpoint into model, optimizer and random states -> (step, seconds).

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
        restore(tensors, model, optimizer)
        return int(header["step"]), float(header["seconds"])
    except (SafetensorError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{found[-1]} cannot be resumed from: {reason}") from None


def restore(
    tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Copies saved tensors back to where `save_checkpoint` took them from."""
    saved: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer/"):
            _, parameter_name, key = name.split("/")
            saved.setdefault(parameter_name, {})[key] = tensor
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model/{name}"])
            # AdamW keeps its step count on the CPU or beside the weights, as it began
            optimizer.state[parameter] = {
                key: value.to(parameter.device) for key, value in saved.get(name, {}).items()
            }
    torch.set_rng_state(tensors["random/cpu"])
    if "random/cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random/cuda"])


def random_states() -> dict[str, Tensor]:
    """The states of the generators that dropout draws from."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states
