"""Writing text: every contender goes on with the same prompts, always by the likeliest token.

The project and transformers keep keys and values of earlier positions in a cache. nanoGPT and
the book read the whole text again for each new token, which is what their `generate` is.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.job import Contender, Job
from benchmarks.peers import import_peer
from benchmarks.train_step import book_config, device_of, transformers_model
from generation import SamplingConfig, generate
from gpt2 import GPT2Model


def prompts(job: Job) -> Tensor:
    """(B, prompt length), the same for everyone."""
    generator = torch.Generator().manual_seed(1)
    shape = (job.batch_size, job.prompt_length)
    return torch.randint(job.model.vocab_size, shape, generator=generator)


def ours(job: Job) -> Contender:
    """generation.generate, as `python main.py generate` calls it."""
    torch.manual_seed(1)
    model = GPT2Model(job.model).to(device_of(job)).eval()
    sampling = SamplingConfig(max_new_tokens=job.new_tokens, temperature=0)
    rows: list[list[int]] = prompts(job).tolist()

    def step() -> int:
        return sum(len(row) for row in generate(model, rows, sampling))

    return Contender(step, "fp32", "with a cache")


def transformers(job: Job) -> Contender:
    """The package's generate, without stopping early."""
    model, note = transformers_model(job)
    model.eval()
    tokens = prompts(job).to(device_of(job))
    # its type says that a GPT2LMHeadModel has no generate
    write: Callable[..., Tensor] = getattr(model, "generate")  # noqa: B009

    def step() -> int:
        written = write(
            tokens, attention_mask=torch.ones_like(tokens), do_sample=False, pad_token_id=0,
            min_new_tokens=job.new_tokens, max_new_tokens=job.new_tokens,
        )  # fmt: skip
        return n_new(tokens, written)

    return Contender(step, "fp32", f"with a cache; {note}")


def nanogpt(job: Job) -> Contender:
    """GPT.generate; top_k=1 makes its draw the likeliest token."""
    module, note = import_peer("nanogpt", job.folder)
    sizes = job.model
    config = module.GPTConfig(
        block_size=sizes.context_length, vocab_size=sizes.vocab_size, n_layer=sizes.n_layer,
        n_head=sizes.n_head, n_embd=sizes.n_embd, dropout=0.0, bias=True,
    )  # fmt: skip
    model = module.GPT(config).to(device_of(job)).eval()
    tokens = prompts(job).to(device_of(job))

    def step() -> int:
        return n_new(tokens, model.generate(tokens, job.new_tokens, top_k=1))

    return Contender(step, "fp32", f"without a cache; {note}")


def book(job: Job) -> Contender:
    """generate_text_simple of chapter 4."""
    module, note = import_peer("book", job.folder)
    model = module.GPTModel(book_config(job.model)).to(device_of(job)).eval()
    tokens, context_length = prompts(job).to(device_of(job)), job.model.context_length

    def step() -> int:
        written = module.generate_text_simple(model, tokens, job.new_tokens, context_length)
        return n_new(tokens, written)

    return Contender(step, "fp32", f"without a cache; {note}")


def n_new(before: Tensor, after: Tensor) -> int:
    """Tokens that were written; reading one waits for the device."""
    int(after[0, -1])
    return after.numel() - before.numel()
