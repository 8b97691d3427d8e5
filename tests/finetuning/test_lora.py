"""finetuning/lora.py: what is learned, what is not, and what a run publishes."""

import shutil
from copy import deepcopy
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from oracles.small_answers import dialogue_trainer
from oracles.small_run import FP32, TRAIN, verse_corpus
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cfg_gpt2 import GPT2Config, InitFrom, RunConfig
from finetuning.chat_json import ChatSettings, write_chat_settings
from finetuning.lora import LoraLinear, add_lora, merge
from finetuning.lora_settings import MATRICES, LoraConfig, require_adamw
from gpt2 import GPT2Model
from load_data import Corpus
from run_directory.config_file import write_config
from run_directory.files import sha256
from run_directory.weights import WEIGHTS_FILE, read_weights
from trainer import LossFunction, Trainer, language_model_loss
from training.best_checkpoint import load_best
from training.checkpoint import read_checkpoint
from training.choose_runtime import missing_compiler
from training.kernels import choose_kernels, use_kernels
from training.kernels.cross_entropy import fused_language_model_loss
from training.kernels.linear import ChunkedLinear

# No two sizes are equal, so the shape of a result tells what it is.
SIZES = GPT2Config(
    vocab_size=37, context_length=10, n_layer=2, n_head=2, n_embd=24, dropout=0.0
)  # fmt: skip
LORA = LoraConfig(rank=5, alpha=7)
BF16 = replace(FP32, precision=torch.bfloat16)
TOKENS = torch.randint(SIZES.vocab_size, (3, 8), generator=torch.Generator().manual_seed(1))
BATCH = TOKENS[:, :-1], TOKENS[:, 1:]
Gradients = dict[str, Tensor]


def random_model(config: GPT2Config = SIZES, lora: LoraConfig | None = LORA) -> GPT2Model:
    """Returns a model with LoRA whose B is random too, or without; biases are random as well."""
    torch.manual_seed(1)
    model = GPT2Model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
        if lora:
            add_lora(model, lora, seed=1)
            for name, parameter in model.named_parameters():
                if name.endswith("lora_B"):
                    parameter.normal_(std=0.1)
    return model


def plain_model(weights: dict[str, Tensor], config: GPT2Config = SIZES) -> GPT2Model:
    """Returns a model without LoRA that has these weights."""
    model = GPT2Model(config)
    assert weights.keys() == {name for name, _ in model.named_parameters()}
    model.load_state_dict(weights, strict=False)
    return model


def base_weights(model: GPT2Model) -> dict[str, Tensor]:
    """Returns copies of the weights beside which a model learns, by their names in a plain one."""
    return {
        name.replace(".base.", "."): p.detach().clone()
        for name, p in model.named_parameters()
        if not name.endswith(("lora_A", "lora_B"))
    }


def merged(model: GPT2Model) -> dict[str, Tensor]:
    """Returns the weights of the plain model that computes the same."""
    return merge(base_weights(model), dict(model.named_parameters()), LORA)


def test_a_model_begins_as_it_was_and_learns_nothing_but_a_and_b() -> None:
    plain = random_model(lora=None)
    model = deepcopy(plain)
    before = torch.get_rng_state()
    add_lora(model, LORA, seed=1)
    assert torch.equal(before, torch.get_rng_state())  # dropout is that of a run without LoRA
    assert torch.equal(model(BATCH[0]), plain(BATCH[0]))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(name.endswith(("lora_A", "lora_B")) for name in trained)
    assert len(trained) == 2 * 4 * SIZES.n_layer


def test_the_merged_model_is_a_plain_one_that_computes_the_same() -> None:
    model = random_model()
    before = deepcopy(dict(model.named_parameters()))
    weights = merged(model)
    logits = model(BATCH[0])
    assert (plain_model(weights)(BATCH[0]) - logits).abs().max() < 1e-5 * logits.abs().max()
    layer = model.get_submodule("blocks.1.feedforward.narrow_proj")  # W + alpha / r B A, in fp64
    assert isinstance(layer, LoraLinear)
    product = layer.lora_B.double() @ layer.lora_A.double()
    exact = layer.base.weight.double() + 7 / 5 * product
    assert (weights["blocks.1.feedforward.narrow_proj.weight"] - exact).abs().max() < 1e-6
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_bf16_weights_are_merged_in_fp32() -> None:
    model = random_model().bfloat16()
    name = "blocks.0.attention.qkv_proj.weight"
    assert torch.equal(merged(model)[name], merged(model.float())[name])


def test_a_seed_gives_the_same_a() -> None:
    def first(seed: int) -> Tensor:
        model = GPT2Model(SIZES)
        add_lora(model, LORA, seed)
        return model.get_parameter("blocks.0.attention.qkv_proj.lora_A")

    assert torch.equal(first(1), first(1)) and not torch.equal(first(1), first(2))
    assert 0.9 < first(1).abs().max() * SIZES.n_embd**0.5 <= 1  # uniform within 1 / sqrt(in)


class Results(TorchDispatchMode):
    """Notes the shapes of all matmuls and sums inside its context, and of embeddings' gradients."""

    KINDS = ("mm", "addmm", "bmm", "sum", "embedding_dense_backward")

    def __init__(self) -> None:
        super().__init__()
        self.shapes: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> object:  # noqa: ANN001
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in self.KINDS:
            self.shapes.add(tuple(n for n in result.shape if n != 1))  # sums keep a dimension of 1
        return result


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_no_gradient_of_a_frozen_weight_is_computed(precision: torch.dtype) -> None:
    def shapes_of_a_step(model: GPT2Model) -> set[tuple[int, ...]]:
        cpu = torch.device("cpu")
        use_kernels(model, choose_kernels(cpu, precision, has_tiles=True, compiled=True))
        with Results() as results:
            with torch.autocast("cpu", precision, enabled=precision != torch.float32):
                loss, _, _ = fused_language_model_loss(model, BATCH)
            loss.backward()
        return results.shapes

    plain = random_model(lora=None)
    weights = {tuple(p.shape) for p in plain.parameters()}
    assert weights <= shapes_of_a_step(plain)  # the counter sees them where they are computed
    model = random_model()
    assert not weights & shapes_of_a_step(model)
    assert all((p.grad is not None) is p.requires_grad for p in model.parameters())


def gradients(model: GPT2Model, loss_fn: LossFunction = fused_language_model_loss) -> Gradients:
    """Returns the gradients of a batch, by name."""
    loss_fn(model, BATCH)[0].backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_near(gradients: Gradients, expected: Gradients) -> None:
    """They differ by the rounding of sums in another order."""
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        error = (gradient - expected[name]).abs().max()
        assert error < 1e-5 * expected[name].abs().max(), name


def test_kernels_and_checkpointing_change_no_gradient() -> None:
    expected = gradients(random_model(), language_model_loss)
    assert_near(gradients(FP32.prepare(random_model())), expected)
    twice = replace(FP32, activation_checkpointing=True).prepare(random_model())
    use_kernels(twice, {torch.nn.Linear: ChunkedLinear})
    assert_near(gradients(twice), expected)


def test_frozen_matrices_in_bf16_give_the_same_bits_as_autocast_gives() -> None:
    plain, prepared = random_model(), BF16.prepare(random_model())
    use_kernels(plain, choose_kernels(BF16.device, BF16.precision))
    with BF16.autocast():
        expected, given = gradients(plain), gradients(prepared)
    assert given.keys() == expected.keys()
    assert all(torch.equal(given[name], expected[name]) for name in given)
    in_bf16 = {name for name, p in prepared.named_parameters() if p.dtype == torch.bfloat16}
    assert in_bf16 == {name for name, _ in plain.named_parameters() if "base.weight" in name}
    assert prepared.lm_head.weight is prepared.token_embedding.weight


def test_kernels_take_the_place_of_the_frozen_layers() -> None:
    model = random_model()
    use_kernels(model, {torch.nn.Linear: ChunkedLinear})
    assert type(model.get_submodule("blocks.1.attention.out_proj.base")) is ChunkedLinear


@pytest.mark.slow
@pytest.mark.skipif(missing_compiler("cpu") is not None, reason="no C++ compiler here")
def test_compiled_blocks_give_the_same_gradients() -> None:
    compiled = replace(FP32, compiled=True).prepare(random_model())
    assert_near(gradients(compiled), gradients(random_model()))


def test_chosen_targets_alone_learn() -> None:
    model = random_model(lora=replace(LORA, targets=("widen_proj",)))
    layers = [name for name, layer in model.named_modules() if isinstance(layer, LoraLinear)]
    assert layers == ["blocks.0.feedforward.widen_proj", "blocks.1.feedforward.widen_proj"]


def test_weights_are_read_in_fp32_and_need_their_file_no_longer(tmp_path: Path) -> None:
    weights = {"a": torch.arange(9.0).reshape(3, 3).bfloat16(), "b": torch.ones(2)}
    save_file(weights, tmp_path / WEIGHTS_FILE)
    read = read_weights(tmp_path / WEIGHTS_FILE)
    (tmp_path / WEIGHTS_FILE).write_bytes(bytes((tmp_path / WEIGHTS_FILE).stat().st_size))
    assert read.keys() == weights.keys()
    for name, weight in read.items():
        assert weight.dtype == torch.float32 and torch.equal(weight, weights[name].float())


# A run -----------------------------------------------------------------------------------------

BASE_SEED = 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return verse_corpus(tmp_path_factory.mktemp("text"))


def sizes_for(corpus: Corpus) -> GPT2Config:
    return replace(SIZES, vocab_size=corpus.tokenizer.vocab_size, context_length=8, dropout=0.1)


def new_trainer(corpus: Corpus, run_dir: Path, *, seed: int = BASE_SEED) -> Trainer:
    """Returns a trainer of a random model with LoRA, as finetuning makes it."""
    sizes, train = sizes_for(corpus), TRAIN
    torch.manual_seed(seed)
    model = GPT2Model(sizes)
    add_lora(model, LORA, train.seed)
    base = base_weights(model)
    torch.manual_seed(train.seed)
    run_dir.mkdir(parents=True, exist_ok=True)
    return Trainer(
        model,
        corpus,
        RunConfig(model=sizes, train=train),
        run_dir,
        FP32,
        Console(file=StringIO(), width=1000),
        fused_language_model_loss,
        publish=lambda trained: merge(deepcopy(base), trained, LORA),
    )


def test_a_run_publishes_the_merged_model_and_its_checkpoints_hold_a_and_b_alone(
    corpus: Corpus, tmp_path: Path
) -> None:
    trainer = new_trainer(corpus, tmp_path)
    start = trainer.evaluate()["val_loss"]
    assert trainer.train()
    model = trainer.model.eval()
    published = GPT2Model.load(tmp_path)
    assert (published(BATCH[0] % 20) - model(BATCH[0] % 20)).abs().max() < 1e-5
    assert trainer.evaluate()["val_loss"] < start - 0.1
    torch.manual_seed(BASE_SEED)
    for name, weight in GPT2Model(sizes_for(corpus)).named_parameters():
        layer, _, kind = name.rpartition(".")
        frozen = f"{layer}.base.{kind}" if layer.endswith(MATRICES) else name
        assert torch.equal(model.get_parameter(frozen), weight)
    names = {n.split("/")[1] for n in read_checkpoint(tmp_path / "checkpoints" / "step-000006")}
    assert {name.rpartition(".")[2] for name in names} == {"lora_A", "lora_B", "cpu"}


def test_the_best_weights_are_the_base_with_the_adapter_of_that_step(
    corpus: Corpus, tmp_path: Path
) -> None:
    base, run = tmp_path / "base", tmp_path / "run"
    trainer = new_trainer(corpus, run)
    torch.manual_seed(BASE_SEED)
    GPT2Model(sizes_for(corpus)).save(base)
    origin = InitFrom(run=str(base), weights_sha256=sha256(base / WEIGHTS_FILE))
    write_config(run, replace(trainer.state.config, init_from=origin))
    settings = ChatSettings(
        method="lora", base=str(base), data=("verse",), base_sha256=origin.weights_sha256, lora=LORA
    )
    write_chat_settings(run, settings)
    assert trainer.train()
    shutil.rmtree(run / "checkpoints" / "step-000006")
    model, record = load_best(run)
    trainer.state.go_to(*trainer.state.checkpoints.newest())
    assert record.step == trainer.state.step == 3
    expected = merged(trainer.model)
    assert all(torch.equal(p, expected[name]) for name, p in model.named_parameters())
    (base / WEIGHTS_FILE).write_bytes(b"others")
    with pytest.raises(ValueError, match=r"has changed since .* leave out --best"):
        load_best(run)


def test_a_resumed_run_is_the_same_run_bit_for_bit(corpus: Corpus, tmp_path: Path) -> None:
    whole = new_trainer(corpus, tmp_path / "whole")
    assert whole.train()
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "checkpoints" / "step-000006")
    resumed = new_trainer(corpus, tmp_path / "half")
    resumed.state.resume()
    assert resumed.state.step == 3 and resumed.train()
    expected = dict(whole.model.named_parameters())
    assert all(torch.equal(p, expected[name]) for name, p in resumed.model.named_parameters())


def test_a_run_is_not_resumed_beside_other_frozen_weights(corpus: Corpus, tmp_path: Path) -> None:
    one, same = (new_trainer(corpus, tmp_path).state.identity for _ in range(2))
    other = new_trainer(corpus, tmp_path, seed=BASE_SEED + 1).state.identity
    one.require_same(same, tmp_path)
    with pytest.raises(ValueError, match=r"trained with frozen weights .*, and here it is"):
        one.require_same(other, tmp_path)


def test_nothing_is_published_where_the_base_has_changed(tmp_path: Path) -> None:
    trainer = dialogue_trainer(tmp_path, lora=LoraConfig(rank=4))
    (tmp_path / "base" / WEIGHTS_FILE).write_bytes(b"others")
    with pytest.raises(ValueError, match=r"the weights of .*base have changed since this run"):
        trainer.train()
    assert trainer.state.checkpoints.paths() and not (tmp_path / WEIGHTS_FILE).exists()


def test_memory_for_gradients_and_moments_is_counted_for_a_and_b_alone(
    corpus: Corpus, tmp_path: Path
) -> None:
    need = new_trainer(corpus, tmp_path).micro_batches.memory_need()
    model = GPT2Model(sizes_for(corpus))
    assert need is not None and need.fixed < 3 * 4 * model.n_parameters()


# What is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lm_head", "token_embedding"])
def test_the_head_is_no_target(name: str) -> None:
    with pytest.raises(ValueError, match=f"--lora.targets {name}: the head shares its weights"):
        LoraConfig(targets=("qkv_proj", name))


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"rank": 0}, "--lora.rank 0 must be at least 1"),
        ({"alpha": 0}, "--lora.alpha 0 must be at least 0.001"),
        ({"alpha": float("nan")}, "--lora.alpha nan must be at least 0.001"),
        ({"dropout": 1}, "--lora.dropout 1 must be at least 0 and below 1"),
        ({"targets": ()}, "--lora.targets is empty"),
        ({"targets": ("c_attn",)}, "--lora.targets c_attn is no matrix of a block; choose among"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(values: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        LoraConfig(**values)


def test_a_rank_beyond_the_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--lora\.rank 25 is more than the rank 24"):
        add_lora(GPT2Model(SIZES), LoraConfig(rank=25), seed=1)


def test_muon_is_refused() -> None:
    with pytest.raises(ValueError, match="muon is for whole matrices, and LoRA's A and B are thin"):
        require_adamw("muon")
