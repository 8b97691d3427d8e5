"""A step of finetuning of each candidate: of all weights, or of LoRA beside them.

The last third of each row is the answer, whose tokens have a target; all tokens of a batch count in
the speed. The adapters stand on the same four matrices of each block.
Previous: train_step.py.  Next: trl_step.py.
"""

import importlib
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.job import Candidate, Job
from benchmarks.train_step import own_candidate, peer_candidate, transformers_model
from finetuning.adapter_files import PEFT_NAMES
from finetuning.lora import add_lora
from finetuning.lora_settings import LoraConfig
from finetuning.supervised import supervised_loss
from gpt2 import GPT2Model
from loss import IGNORE_INDEX
from training.runtime import Batch
from training.sums import Sums

LORA = LoraConfig()


def ours(job: Job) -> Candidate:
    """The project: the step of `finetune --method sft`."""
    return own_step(job, lambda model: None)


def lora(job: Job) -> Candidate:
    """The project: the step of `finetune --method lora`."""
    return own_step(job, lambda model: add_lora(model, LORA, seed=1))


def own_step(job: Job, change: Callable[[GPT2Model], None]) -> Candidate:
    """Returns the project's step, which counts all tokens of its batch."""
    candidate = own_candidate(job, change, loss_of_answers)

    def step() -> int:
        candidate.step()
        return job.batch_size * job.model.context_length

    return replace(candidate, step=step)


def loss_of_answers(model: GPT2Model, batch: Batch) -> tuple[Tensor, Tensor, Sums]:
    """Returns the loss of the last third of each row."""
    tokens, targets = batch
    return supervised_loss(model, (tokens, answers_of(targets)))


def answers_of(targets: Tensor) -> Tensor:
    """(B, T) -> (B, T): the last third of each row stays, nothing else has a target."""
    answers = torch.full_like(targets, IGNORE_INDEX)
    n_scored = targets.size(1) // 3
    answers[:, -n_scored:] = targets[:, -n_scored:]
    return answers


def transformers(job: Job) -> Candidate:
    """Hugging Face: GPT2LMHeadModel with random weights, all of which learn."""
    return peer_step(job, *transformers_model(job))


def peft(job: Job) -> Candidate:
    """peft: its LoRA beside the matrices of Hugging Face's GPT2LMHeadModel."""
    package = importlib.import_module("peft")
    base, note = transformers_model(job)
    model = package.get_peft_model(base, peft_config())
    return peer_step(job, model, f"peft {package.__version__}, {note}")


def peft_config() -> object:
    """Returns peft's LoraConfig with the numbers and the matrices of the project's LoRA."""
    return importlib.import_module("peft").LoraConfig(
        r=LORA.rank,
        lora_alpha=int(LORA.alpha),
        lora_dropout=LORA.dropout,
        target_modules=list(PEFT_NAMES.values()),
        fan_in_fan_out=True,
        task_type="CAUSAL_LM",
    )


def peer_step(job: Job, model: nn.Module, note: str) -> Candidate:
    """Returns the step of a model of transformers, whose labels of -100 have no target."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.0)

    def loss(tokens: Tensor, targets: Tensor) -> Tensor:
        return model(input_ids=tokens, labels=answers_of(tokens)).loss

    return peer_candidate(job, model, optimizer, loss, note)
