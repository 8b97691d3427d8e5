"""A whole training step of each candidate: forward, loss, backward, clip, AdamW.

The project's is Trainer.take_step, as `python main.py train` runs it, including the reading of its
next batch. The peers take the step of their own training scripts, on batches prepared in advance.
All candidates have the same sizes, no dropout, and gradients clipped to norm 1.
Previous: worker.py.  Next: finetune_step.py.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.job import Candidate, Job
from benchmarks.peers import import_peer
from cfg_gpt2 import GPT2Config, RunConfig, TrainConfig
from data.stream import token_dtype
from gpt2 import GPT2Model
from load_data import Corpus, Split
from tokenizer import Tokenizer
from trainer import Trainer
from training.choose_runtime import choose_runtime
from training.kernels.cross_entropy import fused_language_model_loss
from training.progress import new_console
from training.runtime import LossFunction

N_BATCHES = 8  # different batches, which repeat
MANY_STEPS = 1_000_000  # more than are taken, so that the learning rate does not decay


def ours(job: Job) -> Candidate:
    """The project: Trainer.take_step, as `python main.py train` calls it."""
    return own_candidate(job, lambda model: None, fused_language_model_loss)


def own_candidate(
    job: Job, change: Callable[[GPT2Model], None], loss_fn: LossFunction
) -> Candidate:
    """Returns the project's training step of a random model, which `change` may change in place."""
    assert job.precision != "int8"  # int8 is for decoding only
    settings = TrainConfig(
        max_steps=MANY_STEPS, batch_size=job.batch_size, optimizer="adamw",
        device=job.device, precision=job.precision,
    )  # fmt: skip
    config = RunConfig(model=job.model, train=settings)
    runtime = choose_runtime(settings, job.model)
    torch.manual_seed(settings.seed)
    model, corpus = GPT2Model(job.model), random_corpus(job)
    change(model)
    trainer = Trainer(
        model,
        corpus,
        config,
        Path(job.scratch),
        runtime,
        new_console(),
        loss_fn=loss_fn,
    )

    def step() -> int:
        before = trainer.state.tokens
        trainer.take_step()
        return trainer.state.tokens - before

    bf16 = runtime.precision == torch.bfloat16
    return Candidate(step, "bf16" if bf16 else "fp32", runtime.describe())


def random_corpus(job: Job) -> Corpus:
    """Returns a corpus of one long random document, all of whose windows are full."""
    tokenizer = Tokenizer.train([], vocab_size=257)  # only its end-of-text token is used
    n_tokens = N_BATCHES * job.batch_size * job.model.context_length + 1
    tokens = np.random.default_rng(1).integers(1, job.model.vocab_size, n_tokens)
    tokens[tokens == tokenizer.end_of_text] = 1 + (tokenizer.end_of_text == 1)
    split = Split(tokens.astype(token_dtype(job.model.vocab_size)), n_bytes=n_tokens)
    return Corpus(tokenizer, split, split, floor_bits_per_byte=None)


def nanogpt(job: Job) -> Candidate:
    """nanoGPT: model.py with its own optimizer, and the step of train.py."""
    module, note = import_peer("nanogpt", job.folder)
    sizes, device = job.model, device_of(job)
    config = module.GPTConfig(
        block_size=sizes.context_length, vocab_size=sizes.vocab_size, n_layer=sizes.n_layer,
        n_head=sizes.n_head, n_embd=sizes.n_embd, dropout=0.0, bias=True,
    )  # fmt: skip
    torch.backends.cuda.matmul.allow_tf32 = True  # as train.py does
    torch.backends.cudnn.allow_tf32 = True
    model = module.GPT(config).to(device)
    optimizer = model.configure_optimizers(0.1, 6e-4, (0.9, 0.95), device.type)
    forward = torch.compile(model) if job.compiled else model
    return peer_candidate(job, model, optimizer, lambda x, y: forward(x, y)[1], note)


def book(job: Job) -> Candidate:
    """The book: GPTModel of chapter 4, trained as in chapter 5; its output layer is not tied."""
    module, note = import_peer("book", job.folder)
    model = module.GPTModel(book_config(job.model)).to(device_of(job))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4, weight_decay=0.1)

    def loss(tokens: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())

    return peer_candidate(job, model, optimizer, loss, note)


def book_config(sizes: GPT2Config) -> dict[str, int | float | bool]:
    """Returns the sizes under the book's names."""
    return {
        "vocab_size": sizes.vocab_size, "context_length": sizes.context_length,
        "emb_dim": sizes.n_embd, "n_heads": sizes.n_head, "n_layers": sizes.n_layer,
        "drop_rate": 0.0, "qkv_bias": True,
    }  # fmt: skip


def transformers(job: Job) -> Candidate:
    """Hugging Face: GPT2LMHeadModel with random weights, which computes the loss itself."""
    model, note = transformers_model(job)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, weight_decay=0.1)
    forward = torch.compile(model) if job.compiled else model
    return peer_candidate(
        job, model, optimizer, lambda x, y: forward(input_ids=x, labels=x).loss, note
    )


def transformers_model(job: Job) -> tuple[nn.Module, str]:
    """Returns a GPT2LMHeadModel of these sizes with random weights, and a note on its version."""
    import transformers as package

    sizes = job.model
    config = package.GPT2Config(
        vocab_size=sizes.vocab_size, n_positions=sizes.context_length, n_embd=sizes.n_embd,
        n_layer=sizes.n_layer, n_head=sizes.n_head, bos_token_id=0, eos_token_id=0,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    with device_of(job):
        model = package.GPT2LMHeadModel(config)
    return model, f"transformers {package.__version__}"


def peer_candidate(
    job: Job,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    note: str,
) -> Candidate:
    """Returns a candidate with the training step that the scripts of all peers share."""
    batches = random_batches(job, device_of(job))
    model.train()

    def step() -> int:
        tokens, targets = next(batches)
        with autocast(job):
            loss = loss_of(tokens, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return tokens.numel()

    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    return Candidate(step, job.precision, f"{n_parameters:,} parameters; {note}")


def random_batches(job: Job, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields random tokens and targets without end, (B, T) each, on the device."""
    generator = torch.Generator().manual_seed(1)
    shape = (N_BATCHES, job.batch_size, job.model.context_length + 1)
    batches = torch.randint(job.model.vocab_size, shape, generator=generator).to(device)
    pairs = [(rows[:, :-1].contiguous(), rows[:, 1:].contiguous()) for rows in batches]
    return itertools.cycle(pairs)


def autocast(job: Job) -> AbstractContextManager[object]:
    """Returns a context in which matmuls run in the precision of the job."""
    if job.precision == "bf16":
        return torch.autocast(device_of(job).type, torch.bfloat16)
    return nullcontext()


def device_of(job: Job) -> torch.device:
    """Returns the device of a job."""
    return choose_runtime(TrainConfig(device=job.device)).device
