"""What a token costs on paper: floating-point operations and parameters, from the sizes alone.

    forward  = 2 x weights in matmuls + 2 x 2 x C x L x (T + 1) / 2
    training = 3 x forward                        backward has two matmuls for each one of forward

A multiplication counts as one operation, and so does an addition. The second term is attention: a
query meets (T + 1) / 2 keys on average, once for the scores and once for the sum of values.
Embeddings, norms, GELU, softmax and the optimizer are left out: they cost time, but they are no
matmuls, and the sum is compared with a machine's limit of those.
                                                                Kaplan et al. 2020, section 2.1
Previous: sums.py.  Next: kernels/__init__.py.
"""

from dataclasses import dataclass

from cfg_gpt2 import GPT2Config


@dataclass(frozen=True)
class Operations:
    """The operations of one token in a forward pass."""

    blocks: int  # the four linear layers of each block
    head: int  # the output layer
    attention: float  # scores and sums of values; grows with the context

    @property
    def forward(self) -> float:
        """The operations of a forward pass."""
        return self.blocks + self.head + self.attention

    @property
    def training(self) -> float:
        """The operations of a forward and a backward pass."""
        return 3 * self.forward


def operations(config: GPT2Config, length: int) -> Operations:
    """Returns the mean operations of a token in a text of `length` tokens."""
    width, n_layer = config.n_embd, config.n_layer
    head = config.vocab_size * width
    keys = (length + 1) / 2
    return Operations(
        blocks=2 * (matmul_weights(config) - head),
        head=2 * head,
        attention=2 * 2 * width * n_layer * keys,
    )


def matmul_weights(config: GPT2Config) -> int:
    """Returns the number of weights in matrices that every token is multiplied with.

    Biases and the lookups of embeddings are not among them.
    """
    width = config.n_embd
    qkv, out, up, down = 3 * width**2, width**2, 4 * width**2, 4 * width**2
    return config.n_layer * (qkv + out + up + down) + config.vocab_size * width


def parameters(config: GPT2Config) -> int:
    """Returns the number of trained parameters; the tied output layer counts once."""
    width, n_layer = config.n_embd, config.n_layer
    positions = config.context_length * width
    biases = n_layer * (3 + 1 + 4 + 1) * width if config.bias else 0
    norms = (2 * n_layer + 1) * width * (2 if config.bias else 1)
    return matmul_weights(config) + positions + biases + norms
