"""The peak memory of generation: the resident size of a process of its own (Linux).

Started as `python -m oracles.generation_memory SETTINGS`; prints a line of JSON.
"""

import json
import random
import sys
import tempfile

import torch

from cfg_gpt2 import GPT2Config
from generation import SamplingConfig, generate, stream
from gpt2 import GPT2Model
from native.compiled import compile_model
from oracles.peak_memory import forget_peak, status

SMALL = GPT2Config(vocab_size=300, context_length=32, n_layer=2, n_head=2, n_embd=64)
WARM = 1_000  # tokens before the size is noted: the first ones fill pools and tables


def peak(model: GPT2Config, batch_size: int, prompt_length: int, n_new: int) -> dict[str, int]:
    """Bytes of the peak above a process that has generated with a small model, loading included."""
    with tempfile.TemporaryDirectory() as small, tempfile.TemporaryDirectory() as large:
        GPT2Model(SMALL).save(small)
        generate_text(GPT2Model.load(small), 2, 20, 20)
        GPT2Model(model).save(large)  # freed again, before the peak is forgotten
        forget_peak()
        bare = status("VmRSS")
        loaded = GPT2Model.load(large)
        generate_text(loaded, batch_size, prompt_length, n_new)
    return {"peak": status("VmHWM") - bare}


def generate_text(model: GPT2Model, batch_size: int, prompt_length: int, n_new: int) -> None:
    """Continues random prompts, which share no prefix."""
    draw, ids = random.Random(1), range(model.config.vocab_size)
    prompts = [draw.choices(ids, k=prompt_length) for _ in range(batch_size)]
    generate(model, prompts, SamplingConfig(max_new_tokens=n_new, temperature=1.0, top_p=0.9))


def growth(n_tokens: int, *, compiled: bool) -> dict[str, int]:
    """Bytes that one long text takes more, and many short ones, from WARM tokens on."""
    torch.manual_seed(1)
    model = GPT2Model(SMALL).eval()
    if compiled:
        compile_model(model)
    long = SamplingConfig(max_new_tokens=WARM + n_tokens, temperature=1.0, top_p=0.9)
    before = after = 0
    for n, _ in enumerate(stream(model, [1], long), start=1):
        if n == WARM:
            before = status("VmRSS")
        after = status("VmRSS") if n == WARM + n_tokens else after
    for _ in range(n_tokens // 500):
        generate_text(model, 10, 8, 50)
    return {"one long text": after - before, "many short texts": status("VmRSS") - after}


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    if "model" in settings:
        said = peak(GPT2Config(**settings.pop("model")), **settings)
    else:
        said = growth(settings["n_tokens"], compiled=settings["compiled"])
    print(json.dumps(said))
