"""Generation takes the memory that cache_bytes computes, and long texts take no more."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from cfg_gpt2 import GPT2Config
from decoding.engine import cache_bytes
from gpt2 import GPT2Model
from native.compiled import missing

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak"),
]


def measured(**settings: object) -> dict[str, int]:
    """Runs oracles/generation_memory.py in a process of its own and returns its numbers."""
    said = subprocess.run(
        [sys.executable, "-m", "oracles.generation_memory", json.dumps(settings)],
        cwd=ROOT, capture_output=True, encoding="utf-8", check=True,
        env=os.environ | {
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
            # what is freed goes back at once; what glibc would keep, up to 4% more, varies
            "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536",
        },
    )  # fmt: skip
    return json.loads(said.stdout.splitlines()[-1])


def test_the_peak_of_a_full_batch_is_weights_and_cache_within_a_tenth() -> None:
    """32 texts that fill the context of a 124M; their windows move on at the last tokens."""
    config = GPT2Config()
    with torch.device("meta"):
        model = GPT2Model(config)
    n_bytes = sum(parameter.nbytes for parameter in model.parameters())
    computed = n_bytes + cache_bytes(model, 32, config.context_length)
    seen = measured(model=asdict(config), batch_size=32, prompt_length=1022, n_new=4)["peak"]
    print(f"{seen / 1e6:.0f} MB measured, {computed / 1e6:.0f} MB computed: {seen / computed:.3f}")
    assert 0.98 < seen / computed < 1.1


@pytest.mark.parametrize("compiled", [False, True])
def test_ten_thousand_tokens_take_no_more_memory_than_the_first_thousand(compiled: bool) -> None:
    if compiled and missing(GPT2Model(GPT2Config(n_layer=1, n_head=2, n_embd=16))):
        pytest.skip("no compiler")
    seen = measured(n_tokens=10_000, compiled=compiled)
    print(seen)
    # the tokens themselves with their log-probabilities are 1 MB of Python's numbers at most
    assert max(seen.values()) < 4e6
