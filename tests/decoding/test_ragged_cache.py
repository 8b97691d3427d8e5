"""ragged_cache.py: rows of unequal length give what each gives alone, in every layer."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import Tensor

from cfg_gpt2 import GPT2Config
from decoding.ragged_cache import RaggedCache
from gpt2 import GPT2Model
from multiheadattention import explicit_attention

LENGTH = 8
CONFIG = GPT2Config(
    vocab_size=31, context_length=LENGTH, n_layer=2, n_head=3, n_embd=24, dropout=0.0
)
# fp32 carries 7 digits; logits of size 10 are sums of 24 products
assert_close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-4)


@pytest.fixture(scope="module")
def model() -> GPT2Model:
    torch.manual_seed(1)
    model = GPT2Model(CONFIG).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def some_tokens(n_rows: int, length: int, seed: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(31, (n_rows, length), generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("pieces", [[3], [1, 1, 1], [2, 1]])
def test_rows_of_unequal_length_are_computed_as_if_alone(
    model: GPT2Model, pieces: list[int], explicit: bool
) -> None:
    known, new = some_tokens(2, 5), some_tokens(2, 3, seed=3)
    cache = RaggedCache(model, 2, LENGTH)
    model(known, cache)
    cache.truncate([5, 2])  # the second row forgets three
    with explicit_attention() if explicit else nullcontext():
        together = torch.cat([model(piece, cache) for piece in new.split(pieces, dim=1)], dim=1)
    for row, n_known in enumerate([5, 2]):
        alone = model(torch.cat([known[row, :n_known], new[row]])[None])
        assert_close(together[row], alone[0, n_known:])
    assert cache[0].length == 8 and cache[0].positions(1).tolist() == [[8], [5]]


@torch.no_grad()
def test_the_mask_is_computed_once_per_step_for_all_layers(
    model: GPT2Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = RaggedCache(model, 2, LENGTH)
    model(some_tokens(2, 5), cache)
    assert [layer.mask(1) for layer in cache] == [None, None], "the causal mask suits equal rows"
    cache.truncate([3, 5])
    first = cache[0].mask(2)
    assert first is not None and first is cache[1].mask(2)
    hidden = [[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1, 1]]  # of 7 slots, for positions 3 and 4
    assert first[0, 0].isinf().int().tolist() == hidden
    model(some_tokens(2, 1), cache)
    second = cache[0].mask(2)
    assert second is not None and second.shape == (2, 1, 2, 8)
    cache.truncate([5, 3])
    third = cache[0].mask(2)
    assert third is not None and not torch.equal(third, first), "another row is the longer one"


def filled_cache(model: GPT2Model) -> tuple[RaggedCache, Tensor]:
    """Four rows of two positions, in which keys are row numbers and values their negatives."""
    cache = RaggedCache(model, 4, 3)
    k = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, 2, 8)
    for layer in cache:
        layer.append(k, -k)
    return cache, k


def test_rows_can_be_reordered_copied_and_dropped_in_all_layers(model: GPT2Model) -> None:
    cache, _ = filled_cache(model)
    cache.truncate([2, 1, 2, 1])
    cache.reorder([3, 1, 1])
    for layer in cache:
        assert layer.keys[:, 0, 0, 0].tolist() == [3, 1, 1]
        assert layer.values[:, 0, 0, 0].tolist() == [-3, -1, -1]
        assert layer.length == 1
        assert layer.positions(1).tolist() == [1], "all rows are of one length again"
    cache, _ = filled_cache(model)
    cache.truncate([2, 1, 2, 1])
    cache.reorder([3, 0])
    assert cache[1].length == 2 and cache[1].positions(1).tolist() == [[1], [2]]


def test_rows_of_a_cache_are_viewed_in_the_same_memory(model: GPT2Model) -> None:
    cache, k = filled_cache(model)
    cache.truncate([2, 1, 2, 1])
    cache.reorder([3, 1, 1])
    for layer, part in zip(cache, cache.view_rows(1, 2, length=1), strict=True):
        part.append(k[2:3, :, :1], -k[2:3, :, :1])
        assert layer.keys[:, 0, 1, 0].tolist() == [3, 2, 1], "the row is written where it lies"
        assert layer.length == 1 and part.length == 2
    cache.truncate([1, 2, 1])  # what the view has written counts
    assert cache[0].positions(1).tolist() == [[1], [2], [1]]


def test_a_full_ragged_cache_refuses_more(model: GPT2Model) -> None:
    cache, k = filled_cache(model)
    cache.truncate([2, 1, 2, 1])
    with pytest.raises(ValueError, match="room for 3 positions, 4 were asked for"):
        cache[0].append(k, -k)
    assert cache[0].length == 2, "a refused position must not count"
