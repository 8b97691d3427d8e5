"""ModelUnderTest: the model that is verified, and the text that it reads.

A run brings its own weights and tokenizer. Without a run it is a small random model whose weights
are as large as trained ones: with GPT-2's initial weights attention is even and all logits are
nearly equal, so that a wrong mask would hardly show.
Previous: gradients.py.  Next: comparison.py.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path

import torch
from torch import Tensor

from cfg_gpt2 import GPT2Config
from data.tiny_world.stories import LANGUAGES, corpus
from diagnostics.verify.gradients import NamedTensors, forward_backward, rounding_effects
from diagnostics.verify.rounding import logit_bound
from gpt2 import GPT2Model
from multiheadattention import explicit_attention
from run_directory.config_file import read_config
from run_directory.open_run import open_run
from run_directory.weights import assign_weights, on_meta_device
from tokenizer import Tokenizer, UnseenCharacter

SMALL = GPT2Config(context_length=96, n_layer=4, n_head=6, n_embd=96, dropout=0.0)
VOCAB_SIZE = 701  # no multiple of 64, so that the output layer's vocabulary has to be padded
MAX_TOKENS = 256  # per row: enough to exercise every path, and explicit attention stays quick
N_STORIES = 200
N_EXTRA_TOKENS = 8  # of text beyond two contexts, for windows that move on


@dataclass(frozen=True)
class ModelUnderTest:
    """A finished model in fp32 and in evaluation mode, on the device that is verified."""

    model: GPT2Model
    tokenizer: Tokenizer
    text: list[int]  # tokens, more than two contexts hold
    tokens: Tensor  # (B, T), the beginnings of two contexts of the text
    description: str

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.model.device

    @property
    def context_length(self) -> int:
        """The longest sequence that the model reads, in tokens."""
        return self.model.config.context_length

    @cached_property
    def logits(self) -> Tensor:
        """(B, T, V): the logits of `tokens` by the formula, without a cache: the reference."""
        with torch.inference_mode(), explicit_attention():
            return self.model(self.tokens)

    @cached_property
    def fp32_bound(self) -> float:
        """How much logits may differ whose fp32 operations come in another order."""
        return logit_bound(self.model, self.tokens, self.logits, torch.float32)

    @cached_property
    def truncated_model(self) -> GPT2Model:
        """A copy of the first two blocks, for gradients: more blocks would only repeat them."""
        config = replace(self.model.config, n_layer=min(2, self.model.config.n_layer), dropout=0.0)
        with on_meta_device():
            truncated = GPT2Model(config)
        names = {name for name, _ in truncated.named_parameters()}
        weights = {
            name: weight.detach().clone()
            for name, weight in self.model.named_parameters()
            if name in names
        }
        assign_weights(truncated, weights)
        return truncated.requires_grad_().eval()

    @cached_property
    def gradients(self) -> NamedTensors:
        """Logits and gradients of the truncated model by the formula: the reference."""
        with explicit_attention():
            return forward_backward(self.truncated_model, self.tokens)

    @cached_property
    def fp32_effects(self) -> dict[str, float]:
        """The relative effect of one fp32 rounding in every layer on each of `gradients`."""
        return rounding_effects(self.truncated_model, self.tokens, self.gradients, torch.float32)

    @cached_property
    def bf16_effects(self) -> dict[str, float]:
        """The relative effect of one bf16 rounding in every layer on each of `gradients`."""
        return rounding_effects(self.truncated_model, self.tokens, self.gradients, torch.bfloat16)

    @torch.inference_mode()
    def next_logits(self, tokens: list[int], n: int = 1) -> Tensor:
        """(n, V): the logits for what follows each of the last n tokens of one text.

        They are computed by the formula, without a cache.
        """
        with explicit_attention():
            x = self.model.hidden_states(torch.tensor([tokens], device=self.device))
        return self.model.lm_head(x[0, -n:])


def small_model(device: torch.device) -> ModelUnderTest:
    """Returns a random model of four blocks that reads stories of the tiny world."""
    texts = stories("tiny-world")
    tokenizer = Tokenizer.train(texts, VOCAB_SIZE)
    config = replace(SMALL, vocab_size=tokenizer.vocab_size)
    model = GPT2Model(config)
    randomize_weights(model)
    return with_text(model, tokenizer, texts, device, "a small random model")


def model_of_run(run: Path, device: torch.device) -> ModelUnderTest:
    """Returns the model of a run, and text in the tokens of its own tokenizer.

    Raises FileNotFoundError or ValueError where the run cannot be opened.
    """
    path = read_config(run).data.path[0]
    model, tokenizer = open_run(run)
    texts = stories(path if path in LANGUAGES else "tiny-world")
    return with_text(model, tokenizer, texts, device, str(run))


def with_text(
    model: GPT2Model, tokenizer: Tokenizer, texts: list[str], device: torch.device, name: str
) -> ModelUnderTest:
    """Returns the model on the device, with tokens that fill two contexts and go beyond."""
    tokens = encode_stories(texts, tokenizer)
    length = min(model.config.context_length, MAX_TOKENS)
    text = list(islice(cycle(tokens), 2 * model.config.context_length + N_EXTRA_TOKENS))
    rows = [text[start : start + length] for start in (0, model.config.context_length)]
    return ModelUnderTest(
        model=model.to(device).eval(),
        tokenizer=tokenizer,
        text=text,
        tokens=torch.tensor(rows, device=device),
        description=f"{name}: {model.n_parameters():,} parameters, {model.config.n_layer} blocks",
    )


def encode_stories(texts: list[str], tokenizer: Tokenizer) -> list[int]:
    """Returns the tokens of the stories, end to end.

    A tokenizer of characters may not know all of theirs; then the tokens are drawn at random.
    """
    try:
        rows = tokenizer.encode_batch(texts)
    except UnseenCharacter:
        generator = torch.Generator().manual_seed(1)
        return torch.randint(tokenizer.vocab_size, (4096,), generator=generator).tolist()
    return [id for row in rows for id in (*row, tokenizer.end_of_text)]


def stories(name: str) -> list[str]:
    """Returns stories of a built-in world, always the same ones."""
    return [story.text for story in corpus(LANGUAGES[name], N_STORIES, 1)[0]]


def randomize_weights(model: GPT2Model) -> None:
    """Draws weights with which attention is uneven and the logits differ.

    Every matrix keeps the size of its input. Biases and norms are random too, so that a path that
    forgot one of them would show.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "embedding" in name:
                parameter.copy_(0.3 * noise)
            elif parameter.dim() == 2:
                parameter.copy_(noise / math.sqrt(parameter.size(1)))
            elif name.endswith("bias"):
                parameter.copy_(0.1 * noise)
            else:
                parameter.copy_(1 + 0.1 * noise)
