"""Each candidate does its work: micro models in this process, replacements of the checkouts."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import candidates, decode, load_batches, tokenize_text, train_step
from benchmarks.job import Job, Precision
from benchmarks.peers import PACKAGES
from benchmarks.profiling import operator_kind, profile_step, shares
from benchmarks.roofline import matmul_rates, matmul_shapes, memory_peaks
from benchmarks.worker import BUILDERS, RequestHandler, peak_memory
from cfg_gpt2 import GPT2Config
from tokenizer import Tokenizer

MODEL = GPT2Config(vocab_size=40, context_length=8, n_layer=1, n_head=2, n_embd=8, dropout=0.0)
NANOGPT = """
from dataclasses import dataclass
import torch
from torch import nn
from torch.nn import functional as F
from standing_beside import WORD  # a checkout's files import each other

@dataclass
class GPTConfig:
    block_size: int
    vocab_size: int
    n_layer: int
    n_head: int
    n_embd: int
    dropout: float
    bias: bool

class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        print("number of parameters: 1")  # prints of a peer must not get into the answers
        assert config.dropout == 0
        self.table = nn.Embedding(config.vocab_size, config.vocab_size)

    def configure_optimizers(self, weight_decay, learning_rate, betas, device_type):
        return torch.optim.AdamW(self.parameters(), lr=learning_rate, betas=betas)

    def forward(self, idx, targets=None):
        logits = self.table(idx)
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def generate(self, idx, max_new_tokens, top_k=None):
        assert top_k == 1
        return torch.cat([idx, idx.new_zeros(len(idx), max_new_tokens)], dim=1)
"""
BOOK = """
import torch
from torch import nn

class GPTModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        assert cfg["drop_rate"] == 0 and cfg["qkv_bias"]
        self.table = nn.Embedding(cfg["vocab_size"], cfg["vocab_size"])

    def forward(self, in_idx):
        return self.table(in_idx)

def generate_text_simple(model, idx, max_new_tokens, context_size):
    return torch.cat([idx, idx.new_zeros(len(idx), max_new_tokens)], dim=1)
"""


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setattr("sys.path", list(sys.path))
    nanogpt, book = tmp_path / "nanogpt", tmp_path / "book/ch04/01_main-chapter-code"
    for folder in (nanogpt, book):
        folder.mkdir(parents=True)
    (nanogpt / "model.py").write_text(NANOGPT, encoding="utf-8")
    (nanogpt / "standing_beside.py").write_text("WORD = 1", encoding="utf-8")
    (book / "gpt.py").write_text(BOOK, encoding="utf-8")
    return Job(
        target="training", name="", candidate="ours", model=MODEL, batch_size=2, device="cpu",
        precision="fp32", prompt_length=3, new_tokens=4, scratch=str(tmp_path), warmup=0, steps=1,
    )  # fmt: skip


def folder_of(name: str, base: Job) -> str:
    return str(Path(base.scratch, name)) if name in ("nanogpt", "book") else ""


@pytest.mark.parametrize("name", ["ours", "nanogpt", "book", "transformers"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_step_counts_every_token(base: Job, name: str, precision: Precision) -> None:
    if name == "transformers":
        pytest.importorskip("transformers")
    job = replace(base, precision=precision, folder=folder_of(name, base))
    candidate = BUILDERS["training", name](job)
    assert candidate.step() == candidate.step() == 2 * 8
    assert candidate.precision == precision


@pytest.mark.parametrize("name", ["lora", "ours", "peft", "transformers", "trl", "trl_lora"])
def test_a_step_of_finetuning_counts_every_token(base: Job, name: str) -> None:
    for package in PACKAGES:
        if package in {"trl_lora": ("trl", "peft")}.get(name, (name,)):
            pytest.importorskip(package)
    job = replace(base, target="finetuning", model=replace(MODEL, n_embd=16))  # rank 16
    assert BUILDERS["finetuning", name](job).step() == 2 * 8


def test_the_training_step_of_a_peer_applies_a_clipped_gradient(base: Job) -> None:
    model = torch.nn.Embedding(40, 40)
    before = model.weight.detach().clone()
    norms: list[float] = []

    class RecordingSGD(torch.optim.SGD):
        def step(self, closure: None = None) -> None:
            gradients = [p.grad for g in self.param_groups for p in g["params"]]
            norms.append(torch.nn.utils.get_total_norm(gradients).item())
            super().step()

    optimizer = RecordingSGD(model.parameters(), lr=1.0)
    candidate = train_step.peer_candidate(
        base, model, optimizer, lambda x, y: 1e3 * model(x).sum(), ""
    )
    candidate.step()
    assert norms == [pytest.approx(1.0, rel=1e-4)]  # clip_grad_norm_ adds 1e-6 to the norm
    assert math.isclose((model.weight - before).norm().item(), 1.0, rel_tol=1e-3)
    assert model.weight.grad is None


def test_every_window_of_the_project_is_full(base: Job) -> None:
    corpus = train_step.random_corpus(base)
    tokens = corpus.train.tokens[:]
    assert corpus.tokenizer.end_of_text not in tokens
    assert tokens.max() < MODEL.vocab_size
    step = train_step.ours(base).step
    assert {step() for _ in range(2 * train_step.N_BATCHES)} == {16}  # two epochs


@pytest.mark.parametrize(("name", "precisions"), candidates.DECODING_PRECISIONS.items())
def test_a_decoding_step_counts_the_generated_tokens(
    base: Job, name: str, precisions: tuple[Precision, ...]
) -> None:
    if name in PACKAGES:
        pytest.importorskip(name)
    job = replace(base, target="decoding", folder=folder_of(name, base))
    if name == "llama_cpp":
        job = replace(job, batch_size=1, model=replace(MODEL, n_embd=32))  # 32 share a scale
    for precision in precisions:
        scratch = Path(base.scratch, f"scratch-{precision}")  # a worker has its own, too
        scratch.mkdir()
        own_job = replace(job, precision=precision, scratch=str(scratch))
        candidate = BUILDERS["decoding", name](own_job)
        assert candidate.step() == job.batch_size * 4
        assert candidate.precision == precision
    for precision in candidates.PRECISIONS:
        assert BUILDERS["decoding", "ours"](replace(job, precision=precision)).step() > 0


def test_all_candidates_get_the_same_prompts(base: Job) -> None:
    assert torch.equal(decode.prompts(base), decode.prompts(base))
    assert decode.prompts(base).shape == (2, 3)


@pytest.fixture
def texts(base: Job, tmp_path: Path) -> Job:
    text = "It's 12 o'clock — and the cat sleeps.\n\n  Мама мыла раму! " * 40
    file = tmp_path / "text.txt"
    file.write_text(text, encoding="utf-8")
    Tokenizer.train([text], 300).save(tmp_path)
    return replace(base, target="tokenizing", text=str(file), vocabulary=str(tmp_path))


@pytest.mark.parametrize("name", ["ours", "tiktoken", "transformers"])
def test_a_tokenizing_step_counts_the_bytes_of_the_text(texts: Job, name: str) -> None:
    if name != "ours":
        pytest.importorskip(name)
    assert BUILDERS["tokenizing", name](texts).step() == Path(texts.text).stat().st_size


def test_pieces_join_to_the_text_and_are_cut_before_white_space(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokenize_text, "PIECE_CHARACTERS", 7)
    text = "a few words and\n\nLongWordsThatAreCut   \n"
    pieces = tokenize_text.split_into_pieces(text)
    assert "".join(pieces) == text and max(map(len, pieces)) <= 7
    assert pieces[:2] == ["a few", " words"]


def test_a_tokenizer_with_other_ids_is_refused(texts: Job) -> None:
    tokenizer = Tokenizer.load(texts.vocabulary)
    with pytest.raises(ValueError, match="other ids"):
        tokenize_text.require_same_ids(tokenizer, ["cat"], [[1, 2, 3]])


@pytest.mark.parametrize("name", ["ours", "memmap", "dataloader"])
def test_a_loading_step_counts_the_tokens_of_its_batches(
    base: Job, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_batches, "N_TOKENS", 16)
    monkeypatch.setattr(load_batches, "BATCHES_PER_STEP", 3)
    step = BUILDERS["loading", name](replace(base, target="loading")).step
    assert [step() for _ in range(3)] == [3 * 2 * 8] * 3  # more than one epoch


def test_the_request_handler_of_a_worker_answers_prepare_and_round(base: Job) -> None:
    handler = RequestHandler(replace(base, target="training", steps=3))
    ready = handler.prepare()
    assert ready.steps == 3 and ready.precision == "fp32" and ready.warmup_seconds > 0
    assert handler.candidate
    round = handler.round(handler.candidate)
    assert round.units == 3 * 2 * 8 and round.rate > 0
    assert round.memory == 0 or round.memory >= 1 << 20
    assert peak_memory() >= round.memory


def test_the_roofline_is_measured_at_the_shapes_of_the_model(
    base: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.roofline.MIN_SECONDS", 0.0)
    assert matmul_shapes(base) == [(16, 8, 32), (16, 32, 8), (32, 16, 8), (16, 8, 64)]
    cpu = torch.device("cpu")
    assert min(matmul_rates((4, 5, 6), "bf16", cpu)) > 0  # slow where it is emulated, but there
    assert [peak.how for peak in memory_peaks(1 << 10, cpu)] == ["copy", "read"]


def test_the_shares_of_a_profile_add_up_to_one_and_include_matmuls(base: Job) -> None:
    profile = profile_step(train_step.ours(base).step)
    assert sum(profile.shares.values()) == pytest.approx(1)
    assert profile.shares["matmuls"] > 0 and profile.shares["optimizer"] > 0
    assert "aten::" in profile.table


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aten::addmm", "matmuls"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::_fused_adamw_", "optimizer"),
        ("Optimizer.step#AdamW.step", "optimizer"),
        ("## Call CompiledFxGraph f3k ##", "elementwise"),
        ("aten::add_", "elementwise"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32", "matmuls"),
        ("autograd::engine::evaluate_function", "rest"),
    ],
)
def test_the_kind_of_an_operator_follows_from_its_name(name: str, expected: str) -> None:
    assert operator_kind(name) == expected


def test_shares_without_any_operator_are_zero() -> None:
    assert set(shares({}).values()) == {0.0}
