"""Subject: the model that is verified, and the text that it reads.

A run brings its own weights and tokenizer. Without a run it is a small random model whose weights
are as large as trained ones: with the initial ones attention is even and the logits are equal,
and a wrong mask would hardly show.
Previous: rounding.py.  Next: check.py.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path

import torch
from torch import Tensor

from cfg_gpt2 import GPT2Config, require
from data.tiny_world.stories import LANGUAGES, corpus
from diagnostics.verify.rounding import logit_bound
from gpt2 import GPT2Model
from multiheadattention import explicit_attention
from run_directory.config_file import read_config
from run_directory.weights import assign_weights, on_meta_device
from tokenizer import Tokenizer, UnseenCharacter

SMALL = GPT2Config(context_length=96, n_layer=4, n_head=6, n_embd=96, dropout=0.0)
VOCAB_SIZE = 701  # no multiple of 64, so that the padded output layer has something to pad
LONGEST = 256  # tokens that are read at once: every path is taken, and the formula stays quick
N_STORIES = 200
SPARE = 8  # tokens of text beyond the context, for windows that move on


@dataclass(frozen=True)
class Subject:
    """A finished model in fp32, in evaluation mode, on the device that is verified."""

    model: GPT2Model
    tokenizer: Tokenizer
    text: list[int]  # tokens, more than the context holds
    tokens: Tensor  # (B, T), the beginnings of two stretches of the text
    about: str

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def context_length(self) -> int:
        return self.model.config.context_length

    @cached_property
    def logits(self) -> Tensor:
        """(B, T, V): of tokens, by the formula, without a cache: what everything is measured by."""
        with torch.inference_mode(), explicit_attention():
            return self.model(self.tokens)

    @cached_property
    def fp32_bound(self) -> float:
        """Of logits whose fp32 operations come in another order."""
        return logit_bound(self.model, self.tokens, self.logits, torch.float32)

    @cached_property
    def first_blocks(self) -> GPT2Model:
        """The model cut off after two blocks, to be trained: more would only repeat them."""
        config = replace(self.model.config, n_layer=min(2, self.model.config.n_layer), dropout=0.0)
        with on_meta_device():
            part = GPT2Model(config)
        wanted = {name for name, _ in part.named_parameters()}
        weights = {
            name: weight.detach().clone()
            for name, weight in self.model.named_parameters()
            if name in wanted
        }
        assign_weights(part, weights)
        return part.requires_grad_().eval()

    @torch.inference_mode()
    def logits_behind(self, tokens: list[int], n: int = 1) -> Tensor:
        """(T, V): behind each of the last n tokens of one text, by the formula, without a cache."""
        with explicit_attention():
            x = self.model.hidden_states(torch.tensor([tokens], device=self.device))
        return self.model.lm_head(x[0, -n:])


def small_subject(device: torch.device) -> Subject:
    """A random model of four blocks that reads stories of the tiny world."""
    texts = stories("tiny-world")
    tokenizer = Tokenizer.train(texts, VOCAB_SIZE)
    config = replace(SMALL, vocab_size=tokenizer.vocab_size)
    model = GPT2Model(config)
    draw_lively_weights(model)
    return new_subject(model, tokenizer, texts, device, "a small random model")


def subject_of_run(run: Path, device: torch.device) -> Subject:
    """A run's own weights, and text in its own tokens.

    Raises FileNotFoundError or ValueError where the run cannot be opened.
    """
    model, tokenizer = GPT2Model.load(run), Tokenizer.load(run)
    require(
        tokenizer.vocab_size <= model.config.vocab_size,
        f"{run} has {tokenizer.vocab_size} tokens in its tokenizer and "
        f"{model.config.vocab_size} in its model; name a run that was not mixed from two",
    )
    path = read_config(run).data.path[0]
    texts = stories(path if path in LANGUAGES else "tiny-world")
    return new_subject(model, tokenizer, texts, device, str(run))


def new_subject(
    model: GPT2Model, tokenizer: Tokenizer, texts: list[str], device: torch.device, about: str
) -> Subject:
    """The model on the device, with enough tokens to fill its context and go beyond."""
    stretch = tokens_of(texts, tokenizer)
    n_tokens = 2 * model.config.context_length + SPARE
    about = f"{about}: {model.n_parameters():,} parameters, {model.config.n_layer} blocks"
    text = list(islice(cycle(stretch), n_tokens))
    length = min(model.config.context_length, LONGEST)
    rows = [text[start : start + length] for start in (0, model.config.context_length)]
    tokens = torch.tensor(rows, device=device)
    return Subject(model.to(device).eval(), tokenizer, text, tokens, about)


def tokens_of(texts: list[str], tokenizer: Tokenizer) -> list[int]:
    """The stories; where a tokenizer of characters does not know theirs, characters at random."""
    try:
        rows = tokenizer.encode_batch(texts)
    except UnseenCharacter:
        generator = torch.Generator().manual_seed(1)
        return torch.randint(tokenizer.vocab_size, (4096,), generator=generator).tolist()
    return [id for row in rows for id in (*row, tokenizer.end_of_text)]


def stories(name: str) -> list[str]:
    return [story.text for story in corpus(LANGUAGES[name], N_STORIES, 1)[0]]


def draw_lively_weights(model: GPT2Model) -> None:
    """Every layer keeps the size of what it is given; attention is uneven, logits differ.

    Biases and norms are drawn as well: a path that forgot them would show.
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
