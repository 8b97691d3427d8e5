"""A step of trl's SFTTrainer: of all weights, or of peft's LoRA beside them.

The same rows, labels, sizes and precision as in finetune_step.py. Of trl's loop the step itself is
timed: its loss with its metrics, backward, clip and the optimizer. Its activation checkpointing is
on by default; it is off here, because it computes each block twice.
Previous: finetune_step.py.  Next: decode.py.
"""

import importlib
import itertools
from pathlib import Path

from benchmarks.finetune_step import answers_of, peft_config
from benchmarks.job import Candidate, Job
from benchmarks.train_step import (
    MANY_STEPS,
    N_BATCHES,
    device_of,
    random_batches,
    transformers_model,
)
from loss import IGNORE_INDEX
from run_directory.vocabulary import TOKENIZER_FILE
from tokenizer import END_OF_TEXT, Tokenizer


def trl(job: Job) -> Candidate:
    """trl: SFTTrainer with Hugging Face's GPT2LMHeadModel, all of whose weights learn."""
    return trl_step(job, None)


def trl_lora(job: Job) -> Candidate:
    """trl: SFTTrainer with peft's LoRA."""
    return trl_step(job, peft_config())


def trl_step(job: Job, adapter: object | None) -> Candidate:
    """Returns the step of an SFTTrainer, with an adapter of peft or without."""
    package, datasets = importlib.import_module("trl"), importlib.import_module("datasets")
    library = importlib.import_module("transformers")
    model, note = transformers_model(job)
    settings = package.SFTConfig(
        output_dir=job.scratch,
        per_device_train_batch_size=job.batch_size,
        max_steps=MANY_STEPS,
        learning_rate=2e-4,
        bf16=job.precision == "bf16",
        use_cpu=device_of(job).type == "cpu",
        gradient_checkpointing=False,
        max_length=None,
        report_to="none",
    )
    Tokenizer.train([], vocab_size=257).save(job.scratch)  # only its end-of-text token is used
    tokenizer = library.PreTrainedTokenizerFast(
        tokenizer_file=str(Path(job.scratch, TOKENIZER_FILE)), eos_token=END_OF_TEXT
    )
    trainer = package.SFTTrainer(
        model,
        settings,
        train_dataset=datasets.Dataset.from_list(rows(job)),
        processing_class=tokenizer,
        peft_config=adapter,
    )
    trainer.create_optimizer_and_scheduler(MANY_STEPS)
    model, optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
    batches = itertools.cycle(list(trainer.get_train_dataloader()))

    def step() -> int:
        batch = dict(next(batches))  # the step takes its labels out
        n_tokens = batch["input_ids"].numel()
        trainer.training_step(model, batch, (batch["labels"] != IGNORE_INDEX).sum())
        trainer.accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return n_tokens

    return Candidate(step, job.precision, f"trl {package.__version__}, {note}")


def rows(job: Job) -> list[dict[str, list[int]]]:
    """Returns the rows of the peers' batches, of which the last third has labels."""
    batches = itertools.islice(random_batches(job, device_of(job)), N_BATCHES)
    return [
        {"input_ids": row.tolist(), "labels": labels.tolist()}
        for tokens, _ in batches
        for row, labels in zip(tokens, answers_of(tokens), strict=True)
    ]
