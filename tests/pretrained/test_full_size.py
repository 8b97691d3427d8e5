"""GPT-2 in its four sizes: an imported model equals transformers' and needs little memory."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import main
from cfg_gpt2 import PRESETS
from generation import SamplingConfig, generate
from gpt2 import GPT2Model
from run_directory.weights import WEIGHTS_FILE
from tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")
if not Path("/proc/self/status").exists():
    pytest.skip("only Linux reports the peak memory of a process", allow_module_level=True)
ROOT = Path(main.__file__).parent
NAMES = ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"]
MEASURED_IMPORT = """
import re, sys, main, pretrained.import_command
def peak():
    status = open("/proc/self/status").read()
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1]) * 1024
before = peak()
status = main.main(["import", sys.argv[1], "--out", sys.argv[2]])
print(peak() - before, file=sys.stderr)
sys.exit(status)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is deleted at the end: gpt2-xl takes 12 GB in it."""
    with tempfile.TemporaryDirectory(prefix="full-size-") as name:
        yield Path(name)


def saved_by_transformers(name: str, folder: Path) -> torch.nn.Module:
    """A model of this size with random weights, none of them 0 or 1, and a small tokenizer."""
    sizes = PRESETS[name]
    torch.manual_seed(11)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_layer=sizes.n_layer, n_head=sizes.n_head, n_embd=sizes.n_embd)
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    model.save_pretrained(folder)
    Tokenizer.train(["The cat sat on the mat. " * 20], 280).save(folder)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_full_size_import_gives_the_same_logits_and_text_within_1_3_times_its_weights_in_memory(
    name: str, folder: Path
) -> None:
    theirs = saved_by_transformers(name, folder / "saved")
    process = subprocess.run(
        [sys.executable, "-c", MEASURED_IMPORT, str(folder / "saved"), str(folder / "run")],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert process.returncode == 0, process.stderr
    size = (folder / "run" / WEIGHTS_FILE).stat().st_size
    share = int(process.stderr.splitlines()[-1]) / size  # without the memory of Python and torch
    ours = GPT2Model.load(folder / "run")
    tokens = torch.randint(50257, (1, 512))
    with torch.inference_mode():
        difference = (ours(tokens) - theirs(tokens).logits).abs().max().item()
    prompt = tokens[:, :20]
    text = transformers.GPT2LMHeadModel.generate(
        theirs, prompt, max_new_tokens=100, do_sample=False, eos_token_id=None, pad_token_id=0
    )[0, 20:].tolist()
    greedy = SamplingConfig(max_new_tokens=100, temperature=0.0)
    print(
        f"{name}: memory {share:.3f} times the weights, logits differ by {difference:.1e}, "
        f"{len(set(text))} different tokens in the greedy text"
    )
    assert generate(ours, prompt.tolist(), greedy) == [text]
    assert difference < 1e-4
    assert share <= 1.3
