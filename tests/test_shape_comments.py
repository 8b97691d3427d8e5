"""Shape comments and the shapes in docstrings are executed, so that none of them can be wrong."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from oracles.shape_comments import ShapeComments

import decoding.batch
import decoding.engine
import decoding.logits_processors
import decoding.ragged_cache
import decoding.rows
import decoding.sampling
import decoding.speculative
import feedforward
import gelu
import generation
import gpt2
import layer_norm
import loss
import multiheadattention
import training.kernels
import training.kernels.attention
import training.kernels.cross_entropy
import training.kernels.gelu
import training.kernels.layer_norm
import transformer_block
from cfg_gpt2 import GPT2Config

# No two are equal. 8 positions are in the cache, 3 are new: S = 11.
SIZES: dict[str, int | None] = {
    "B": 2, "T": 3, "S": 11, "C": 35, "H": 5, "D": 7, "F": 140, "V": 13,
}  # fmt: skip


def model_of_unequal_sizes() -> gpt2.GPT2Model:
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=13, context_length=17, n_layer=1, n_head=5, n_embd=35, dropout=0.0
    )
    return gpt2.GPT2Model(config).eval()


def test_shape_comments_of_the_model_are_true() -> None:
    assert len(set(SIZES.values())) == len(SIZES)
    model = model_of_unequal_sizes()
    tokens = torch.randint(13, (2, 11))
    modules = [
        gelu, layer_norm, feedforward, multiheadattention, transformer_block, gpt2, loss,
        decoding.ragged_cache,
    ]  # fmt: skip
    comments = ShapeComments(modules, SIZES)
    for explicit in (False, True):
        cache = model.new_cache(2)
        ragged = decoding.ragged_cache.RaggedCache(model, 2, 17)
        model(tokens[:, :8], cache)
        model(tokens[:, :8], ragged)
        ragged.truncate([8, 5])
        with comments:
            if explicit:
                with multiheadattention.explicit_attention():
                    logits = model(tokens[:, 8:], cache)
            else:
                logits = model(tokens[:, 8:], cache)
            loss.next_token_loss(logits, tokens[:, 8:])
            model(tokens[:, 8:], ragged)
            model(tokens[:, 8:])
    assert comments.mistakes == []
    assert comments.unseen == []
    assert len(comments.claims) >= 20


def test_shape_comments_of_the_kernels_are_true() -> None:
    torch.manual_seed(1)
    length = training.kernels.attention.SHORT + 8  # more than the formula is used for
    config = GPT2Config(
        vocab_size=13, context_length=length, n_layer=1, n_head=5, n_embd=35, dropout=0.0
    )
    model, tokens = gpt2.GPT2Model(config), torch.randint(13, (2, length))
    last = {replaced: kernels[-1] for replaced, kernels in training.kernels.KERNELS.items()}
    training.kernels.use_kernels(model, last)
    modules = [
        training.kernels.gelu, training.kernels.layer_norm, training.kernels.attention,
        training.kernels.cross_entropy,
    ]  # fmt: skip
    comments = ShapeComments(modules, SIZES | {"T": length, "S": length, "R": 2 * length})
    with comments, torch.autocast("cpu", torch.bfloat16):
        loss_sum, _, _ = training.kernels.cross_entropy.fused_language_model_loss(
            model, (tokens, tokens)
        )
        loss_sum.backward()
        training.kernels.cross_entropy.scored_cross_entropy(
            model.hidden_states(tokens), model.lm_head.weight, tokens
        )
        training.kernels.attention.ShortAttention(config)(torch.zeros(2, length, 35))
    assert comments.mistakes == []
    assert comments.unseen == []
    assert len(comments.claims) >= 15


def test_shape_comments_of_generation_are_true() -> None:
    model = model_of_unequal_sizes()
    together = [decoding.batch, decoding.engine, decoding.logits_processors, decoding.sampling]
    # the text grows from token to token, so T is any number
    comments = ShapeComments(together, SIZES | {"T": None})
    one_text = ShapeComments([generation, decoding.speculative], SIZES | {"T": None})
    every_setting = generation.SamplingConfig(
        max_new_tokens=14, min_new_tokens=14, temperature=1.0, top_k=5, top_p=0.9, min_p=0.01,
        repetition_penalty=1.1, presence_penalty=0.1, no_repeat_ngram=4,
        logit_bias=((3, 0.5),), banned=((3, 4),), stop_tokens=(6,),
    )  # fmt: skip
    greedy = generation.SamplingConfig(max_new_tokens=14, temperature=0)
    for sampling in (every_setting, greedy):
        prompts = [[1, 2, 3, 4]] * 2
        with comments:
            generation.generate(model, prompts, sampling)
            rows = [decoding.rows.RowState(prompt=[], seed=1) for _ in prompts]
            decoding.sampling.probabilities(torch.zeros(2, 13), rows, sampling)
        with one_text:
            lookup = decoding.speculative.PromptLookup(13)
            speculation = decoding.speculative.Speculation(lookup, 2)
            decoding.engine.complete(model, prompts[:1], sampling, speculation=speculation)
            settings = {"temperature": sampling.temperature, "top_k": 5, "top_p": 0.9}
            list(generation.generate_tokens(model, [1, 2], 16, **settings))
    assert comments.mistakes + one_text.mistakes == []
    assert comments.unseen + one_text.unseen == []
    assert len(comments.claims | one_text.claims) >= 20


EXAMPLE = '''
import pytest
import torch


def right(x):
    """(B, T, C) -> (B, T, V). Two lines, two names, a tail."""
    a, b = x.split(
        [5, 30], dim=-1
    )
    y = x.transpose(1, 2)  # (B, C, T)
    for _ in range(2):
        z = y.sum(dim=1, keepdim=True)  # (..., 1, T)
    return z.new_zeros(2, 3, 13)  # (B, T, V)


def wrong(x):
    """(B, C, T) -> (B, T)."""
    y = x.transpose(1, 2)  # (B, T, C)
    a, b = x[0], x  # (T, C)
    z = x.shape  # (B, T, C)
    w = x.flatten()  # (B, X)
    return x  # (B, T)


def wrong_by_coincidence(x):
    return x[:, :1]  # (B, 2, C)


def never(x):
    return x  # (B, T, C)
'''


def module_from(path: Path, text: str) -> ModuleType:
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_wrong_shape_comment_is_found(tmp_path: Path) -> None:
    example = module_from(tmp_path / "example.py", EXAMPLE)
    lines = {text.strip(): n for n, text in enumerate(EXAMPLE.split("\n"), start=1)}
    x = torch.zeros(2, 3, 35)
    comments = ShapeComments([example], SIZES)
    with comments:
        example.right(x)
    assert comments.mistakes == []
    with comments:
        example.wrong(x)
        example.wrong_by_coincidence(x)
    assert comments.mistakes == [
        f"example.py:{lines['def wrong(x):']}: takes (2, 3, 35), not (B, C, T)",
        f"example.py:{lines['y = x.transpose(1, 2)  # (B, T, C)']}: has (2, 35, 3), not (B, T, C)",
        # the first name fits, the second does not
        f"example.py:{lines['a, b = x[0], x  # (T, C)']}: has (2, 3, 35), not (T, C)",
        f"example.py:{lines['z = x.shape  # (B, T, C)']}: has a Size, not (B, T, C)",
        f"example.py:{lines['w = x.flatten()  # (B, X)']}: has (210,), not (B, X)",
        f"example.py:{lines['return x  # (B, T)']}: has (2, 3, 35), not (B, T)",
        f"example.py:{lines['def wrong(x):']}: returns (2, 3, 35), not (B, T)",
        f"example.py:{lines['return x[:, :1]  # (B, 2, C)']}: has (2, 1, 35), not (B, 2, C)",
    ]
    assert comments.unseen == [f"example.py:{lines['return x  # (B, T, C)']}"]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("cache.append(k, v)  # (B, H, S, D)", "cache.append(k, v)  # (B, H, T, D)"),
        ("(q, k, v))  # (B, H, T, D)", "(q, k, v))  # (B, T, H, D)"),
        ("# (T, S)", "# (S, T)"),
    ],
)
def test_a_shape_comment_of_the_model_made_wrong_is_found(
    tmp_path: Path, right: str, wrong: str
) -> None:
    text = Path(str(multiheadattention.__file__)).read_text(encoding="utf-8")
    assert right in text
    module = module_from(tmp_path / "changed.py", text.replace(right, wrong))
    config = model_of_unequal_sizes().config
    layer, cache = module.MultiHeadAttention(config), module.KVCache(config, batch_size=2)
    layer(torch.zeros(2, 8, 35), cache)
    with ShapeComments([module], SIZES) as comments, module.explicit_attention():
        layer(torch.zeros(2, 3, 35), cache)
    assert any(wrong[wrong.index("# (") + 2 :] in mistake for mistake in comments.mistakes)
