"""Decoding: every candidate continues the same prompts by greedy decoding.

The project, transformers, CTranslate2 and llama.cpp keep keys and values of earlier positions in a
cache. nanoGPT and the book compute the whole text again for each new token.
Previous: trl_step.py.  Next: tokenize_text.py.
"""

import importlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer as WordTokenizer
from tokenizers.models import WordLevel
from torch import Tensor

from benchmarks.job import Candidate, Job
from benchmarks.peers import import_peer
from benchmarks.train_step import book_config, device_of, transformers_model
from generation import SamplingConfig, generate
from gpt2 import GPT2Model
from native.compiled import compile_model, missing
from pretrained.gguf import Precision as GGUFPrecision
from pretrained.gguf import write_gguf
from quantization.int8 import quantize
from training.kernels import choose_kernels, use_kernels

COMPUTE_TYPES = {"fp32": "float32", "int8": "int8"}  # CTranslate2's names


def prompts(job: Job) -> Tensor:
    """Returns random prompts, (B, prompt length), the same for all candidates."""
    generator = torch.Generator().manual_seed(1)
    shape = (job.batch_size, job.prompt_length)
    return torch.randint(job.model.vocab_size, shape, generator=generator)


def ours(job: Job) -> Candidate:
    """The project: generation.generate, as `python main.py generate` calls it."""
    torch.manual_seed(1)
    model = GPT2Model(job.model).to(device_of(job)).eval()
    if job.precision == "int8":
        quantize(model)
    elif job.precision == "bf16":
        model.bfloat16()
    use_kernels(model, choose_kernels(model.device, model.dtype))
    wrong = missing(model)
    if wrong is None:
        compile_model(model)
    sampling = SamplingConfig(max_new_tokens=job.new_tokens, temperature=0)
    rows: list[list[int]] = prompts(job).tolist()

    def step() -> int:
        return sum(len(row) for row in generate(model, rows, sampling))

    return Candidate(step, job.precision, f"with a cache; step {wrong or 'compiled'}")


def transformers(job: Job) -> Candidate:
    """Hugging Face: the model's generate method, without stopping early."""
    model, note = transformers_model(job)
    model.eval()
    if job.precision == "bf16":
        model.bfloat16()
    tokens = prompts(job).to(device_of(job))
    # its type says that a GPT2LMHeadModel has no generate
    generate_tokens: Callable[..., Tensor] = getattr(model, "generate")  # noqa: B009

    def step() -> int:
        output = generate_tokens(
            tokens, attention_mask=torch.ones_like(tokens), do_sample=False, pad_token_id=0,
            min_new_tokens=job.new_tokens, max_new_tokens=job.new_tokens,
        )  # fmt: skip
        return n_new(tokens, output)

    return Candidate(step, job.precision, f"with a cache; {note}")


def llama_cpp(job: Job) -> Candidate:
    """llama.cpp: random weights in a GGUF file; its int8 is q8_0."""
    package = importlib.import_module("llama_cpp")
    file = Path(job.scratch, "model.gguf")
    torch.manual_seed(1)
    precisions: dict[str, GGUFPrecision] = {"fp32": "fp32", "bf16": "bf16", "int8": "q8_0"}
    write_gguf(GPT2Model(job.model), None, file, precisions[job.precision])
    model = package.Llama(
        str(file), n_ctx=job.model.context_length, n_threads=torch.get_num_threads(),
        n_threads_batch=torch.get_num_threads(), verbose=False,
    )  # fmt: skip
    (tokens,) = prompts(job).tolist()

    def step() -> int:
        model.reset()  # empties the cache, which would hold the prompt
        output = model.generate(tokens, temp=0.0)
        return sum(1 for _ in islice(output, job.new_tokens))

    return Candidate(step, job.precision, f"llama-cpp-python {package.__version__}")


def ctranslate2(job: Job) -> Candidate:
    """CTranslate2: random weights of transformers, converted by the package's own converter."""
    package = importlib.import_module("ctranslate2")
    saved, converted = Path(job.scratch, "saved"), Path(job.scratch, "converted")
    model, _ = transformers_model(job)
    save: Callable[[Path], None] = getattr(model, "save_pretrained")  # noqa: B009
    save(saved)
    # it takes words in place of ids, and would add <|endoftext|> to a vocabulary without it
    words = ["<|endoftext|>", *(f"t{token}" for token in range(1, job.model.vocab_size))]
    WordTokenizer(WordLevel(dict(zip(words, range(len(words)), strict=True)), words[0])).save(
        str(saved / "tokenizer.json")
    )
    package.converters.TransformersConverter(str(saved)).convert(str(converted))
    generator = package.Generator(
        str(converted), device="cpu", compute_type=COMPUTE_TYPES[job.precision],
        inter_threads=1, intra_threads=torch.get_num_threads(),
    )  # fmt: skip
    rows = [[words[token] for token in row] for row in prompts(job).tolist()]

    def step() -> int:
        results = generator.generate_batch(
            rows, max_length=job.new_tokens, min_length=job.new_tokens, sampling_topk=1,
            include_prompt_in_result=False,
        )  # fmt: skip
        return sum(len(result.sequences_ids[0]) for result in results)

    return Candidate(step, job.precision, f"ctranslate2 {package.__version__}")


def nanogpt(job: Job) -> Candidate:
    """nanoGPT: GPT.generate; with top_k=1 its sampling is greedy."""
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

    return Candidate(step, "fp32", f"without a cache; {note}")


def book(job: Job) -> Candidate:
    """The book: generate_text_simple of chapter 4."""
    module, note = import_peer("book", job.folder)
    model = module.GPTModel(book_config(job.model)).to(device_of(job)).eval()
    tokens, context_length = prompts(job).to(device_of(job)), job.model.context_length

    def step() -> int:
        output = module.generate_text_simple(model, tokens, job.new_tokens, context_length)
        return n_new(tokens, output)

    return Candidate(step, "fp32", f"without a cache; {note}")


def n_new(before: Tensor, after: Tensor) -> int:
    """Returns the number of generated tokens, and waits for the device by reading one."""
    int(after[0, -1])
    return after.numel() - before.numel()
