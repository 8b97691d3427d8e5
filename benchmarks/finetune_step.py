"""A step of finetuning of each candidate: of all weights, or of LoRA beside them.

Every token of a batch has a target, and the adapters stand on the same four matrices of each block.
Full finetuning is the step of train_step.py: what a row scores changes nothing but the last layer.
Previous: train_step.py.  Next: decode.py.
"""

import importlib

import torch
from torch import Tensor

from benchmarks.job import Candidate, Job
from benchmarks.train_step import own_candidate, peer_candidate, transformers_model
from finetuning.adapter_files import PEFT_NAMES
from finetuning.lora import add_lora
from finetuning.lora_settings import LoraConfig

LORA = LoraConfig()


def lora(job: Job) -> Candidate:
    """The project: Trainer.take_step of a model with LoRA, as `finetune --method lora` adds it."""
    return own_candidate(job, lambda model: add_lora(model, LORA, seed=1))


def peft(job: Job) -> Candidate:
    """peft: its LoRA beside the matrices of Hugging Face's GPT2LMHeadModel."""
    package = importlib.import_module("peft")
    base, note = transformers_model(job)
    config = package.LoraConfig(
        r=LORA.rank,
        lora_alpha=int(LORA.alpha),
        lora_dropout=LORA.dropout,
        target_modules=list(PEFT_NAMES.values()),
        fan_in_fan_out=True,
        task_type="CAUSAL_LM",
    )
    model = package.get_peft_model(base, config)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.0)

    def loss(tokens: Tensor, targets: Tensor) -> Tensor:
        return model(input_ids=tokens, labels=tokens).loss

    note = f"peft {package.__version__}, {note}"
    return peer_candidate(job, model, optimizer, loss, note)
