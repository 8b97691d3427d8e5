"""What a token costs on paper: the operations of its matrix products, and the bytes it reads.

    forward  = 2 x weights in products + 2 x 2 x C x L x (T + 1) / 2
    training = 3 x forward                        the backward pass has two products for each one

A multiplication counts as one, and so does an addition. The second term is attention: a query
meets (T + 1) / 2 keys on average, once for the scores and once for the sum of values. Embeddings,
norms, GELU, softmax and the optimizer are left out: they cost time, but they are not what the
limit of matrix products is about.                              Kaplan et al. 2020, section 2.1
"""

from dataclasses import dataclass

from cfg_gpt2 import GPT2Config


@dataclass(frozen=True)
class Operations:
    """Of one token, forward only."""

    blocks: int  # the four linear layers of each block
    head: int  # the output layer
    attention: float  # scores and sums of values; grows with the context

    @property
    def forward(self) -> float:
        return self.blocks + self.head + self.attention

    @property
    def training(self) -> float:
        return 3 * self.forward


def operations(config: GPT2Config, length: int) -> Operations:
    """The mean over the tokens of a text of `length` tokens."""
    width, n_layer = config.n_embd, config.n_layer
    weights = weights_in_products(config)
    head = config.vocab_size * width
    keys = (length + 1) / 2
    return Operations(
        blocks=2 * (weights - head), head=2 * head, attention=2 * 2 * width * n_layer * keys
    )


def weights_in_products(config: GPT2Config) -> int:
    """The matrices that every token is multiplied with; biases and lookups are none."""
    width = config.n_embd
    qkv, out, wide, narrow = 3 * width**2, width**2, 4 * width**2, 4 * width**2
    return config.n_layer * (qkv + out + wide + narrow) + config.vocab_size * width


def parameters(config: GPT2Config) -> int:
    """All numbers that are trained; the tied head counts once."""
    width, n_layer = config.n_embd, config.n_layer
    positions = config.context_length * width
    biases = n_layer * (3 + 1 + 4 + 1) * width if config.bias else 0
    norms = (2 * n_layer + 1) * width * (2 if config.bias else 1)
    return weights_in_products(config) + positions + biases + norms
