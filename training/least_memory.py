"""The least memory that a training run takes, so that sizes that cannot be meant are refused first.

    weights and gradients 8 P, moments 4 P or 8 P     P parameters, bytes
    frozen weights 4 P, in bf16 2 P                   in the place of those
    the windows of a step 16 T each                   tokens and targets of 64 bits
    activations           24 C T n_layer each         of the windows that are computed at a time

Autograd keeps three times as many activations in fp32; `main.py plan` counts every tensor. The sum
is compared with all memory that a device has, used or not.
Previous: machine.py.  Next: memory.py.
"""

from dataclasses import dataclass, replace

from cfg_gpt2 import GPT2Config, TrainConfig
from training.machine import total_memory
from training.runtime import Runtime

GIGA = 10**9
FLAGS = {  # of the sizes that can be made smaller; that of the first one changes no result
    "micro_batch": "--train.micro-batch",
    "batch_size": "--train.batch-size",
    "n_layer": "--model.n-layer",
    "n_embd": "--model.n-embd",
    "context_length": "--model.context-length",
    "vocab_size": "--data.vocab-size",
}
USUAL = {
    "batch_size": 32,
    "n_layer": 12,
    "n_embd": 768,
    "context_length": 1024,
    "vocab_size": 50257,
}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What decides about the memory of one process."""

    micro_batch: int
    batch_size: int
    n_layer: int
    n_embd: int
    context_length: int
    vocab_size: int
    parameter_bytes: int  # of a weight, its gradient and its moments
    n_shards: int
    checkpointing: bool

    @property
    def n_bytes(self) -> int:
        """The bytes of the parameters, the windows and the activations."""
        width, n_rows = self.n_embd, self.vocab_size + self.context_length
        n_parameters = 12 * self.n_layer * width**2 + n_rows * width
        kept = (4 if self.checkpointing else 24) * width * self.n_layer
        windows = 16 * self.batch_size + kept * min(self.micro_batch, self.batch_size)
        return self.parameter_bytes * n_parameters // self.n_shards + windows * self.context_length

    def largest(self, name: str, budget: int, step: int) -> int:
        """Returns the largest multiple of `step` that fits in the place of a size; 0: none."""
        low, high = 0, getattr(self, name) // step
        while low < high:
            middle = (low + high + 1) // 2
            fits = replace(self, **{name: middle * step}).n_bytes <= budget
            low, high = (middle, high) if fits else (low, middle - 1)
        return low * step


def require_memory(
    model: GPT2Config,
    train: TrainConfig,
    runtime: Runtime,
    vocab_size: int = 1,
    *,
    is_frozen: bool = False,
) -> None:
    """Raises ValueError for a run that this device cannot hold, with a flag and what fits.

    vocab_size is that of the tokenizer where it is known; is_frozen: whether no more than thin
    matrices are trained beside the model, as LoRA does.
    """
    sizes, device = sizes_of(model, train, runtime, vocab_size), runtime.device.type
    if is_frozen:
        sizes = replace(sizes, parameter_bytes=runtime.precision.itemsize)
    there = total_memory(runtime.device)
    budget = there // (runtime.ranks.n_local if device == "cpu" else 1)
    if not there or sizes.n_bytes <= budget:
        return
    fitting = {
        name: sizes.largest(name, budget, model.n_head if name == "n_embd" else 1) for name in FLAGS
    }
    excess = {name: getattr(sizes, name) / n for name, n in USUAL.items() if fitting[name] > 0}
    takes = f"takes at least {sizes.n_bytes / GIGA:,.1f} GB, {device} has {budget / GIGA:,.1f} GB"
    if not excess:
        raise ValueError(f"a model of these sizes {takes}; give several sizes lower values")
    name = "micro_batch" if fitting["micro_batch"] else max(excess, key=lambda n: excess[n])
    value = f"{FLAGS[name]} {getattr(sizes, name)}"
    raise ValueError(f"{value} {takes}; at most {FLAGS[name]} {fitting[name]} fits")


def sizes_of(model: GPT2Config, train: TrainConfig, runtime: Runtime, vocab_size: int) -> Sizes:
    """Returns the sizes of one process, each as the settings give it at the least."""
    n_ranks = runtime.ranks.n_ranks
    batch_size = -(-train.batch_size // n_ranks)
    micro_batch = batch_size if train.micro_batch is None else train.micro_batch
    if micro_batch == "auto" or runtime.device.type != "cpu":  # a GPU's are halved until they fit
        micro_batch = 1
    return Sizes(
        micro_batch=min(micro_batch, batch_size),
        batch_size=batch_size,
        n_layer=model.n_layer,
        n_embd=model.n_embd,
        context_length=model.context_length,
        vocab_size=vocab_size,
        parameter_bytes=16 if train.optimizer == "adamw" else 12,
        n_shards=n_ranks if train.strategy == "fsdp" else 1,
        checkpointing=train.activation_checkpointing,
    )
