"""Exercise: the feed-forward layer, against torch's own layers in fp64.

Previous: layer_norm.py.  Next: causal_softmax.py.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import feedforward
from cfg_gpt2 import GPT2Config
from exercises.exercise import Case, Exercise, Mistake, Probe, Text
from exercises.look import influence_panels


class FeedForward(nn.Module):
    """The solution, one step a line, which the mistakes change."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.widen_proj = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.narrow_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        wide = self.widen_proj(x)  # (B, T, F)
        gated = F.gelu(wide, approximate="tanh")  # (B, T, F)
        y = self.narrow_proj(gated)  # (B, T, C)
        return self.dropout(y)


class Oracle(nn.Module):
    """The same as one expression, in the dtype of its input."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.p = config.dropout
        self.widen_proj = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.narrow_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        wide = x @ self.widen_proj.weight.mT
        if self.widen_proj.bias is not None:
            wide = wide + self.widen_proj.bias
        y = F.gelu(wide, approximate="tanh") @ self.narrow_proj.weight.mT
        if self.narrow_proj.bias is not None:
            y = y + self.narrow_proj.bias
        return F.dropout(y, self.p, self.training)


def config_of(
    n_embd: int, n_head: int = 1, *, bias: bool = True, dropout: float = 0.0
) -> GPT2Config:
    """Returns the settings of a small model."""
    return GPT2Config(
        vocab_size=8,
        context_length=16,
        n_layer=1,
        n_head=n_head,
        n_embd=n_embd,
        bias=bias,
        dropout=dropout,
    )


def weights_of(n_embd: int, generator: torch.Generator, *, bias: bool = True) -> dict[str, Tensor]:
    """Returns weights of the layer by name, of which none is 0."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    drawn = {
        "widen_proj.weight": 1.7 / math.sqrt(n_embd) * draw(4 * n_embd, n_embd),
        "widen_proj.bias": 0.4 * draw(4 * n_embd),
        "narrow_proj.weight": 1.0 / math.sqrt(n_embd) * draw(n_embd, 4 * n_embd),
        "narrow_proj.bias": 0.4 * draw(n_embd),
    }
    return {name: w for name, w in drawn.items() if bias or "bias" not in name}


def cases(seed: int) -> list[Case]:
    """Returns the cases: two sizes, no biases, positions by themselves, dropout."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    axes = ("row", "position", "channel")
    first = Case(
        name=Text("6 channels", "6 каналов"),
        arguments=(config_of(6),),
        inputs=(draw(2, 5, 6),),
        weights=weights_of(6, generator),
        axes=axes,
    )
    lossy = replace(first, arguments=(config_of(6, dropout=0.5),))
    return [
        first,
        Case(
            name=Text("10 channels, config.bias=False", "10 каналов, config.bias=False"),
            arguments=(config_of(10, bias=False),),
            inputs=(draw(3, 4, 10),),
            weights=weights_of(10, generator, bias=False),
            axes=axes,
        ),
        replace(
            first,
            name=Text("each position by itself", "каждая позиция сама по себе"),
            inputs=(draw(1, 5, 6),),
            axes=("position", "position"),
            kind="influence",
        ),
        replace(
            lossy,
            name=Text("config.dropout=0.5 in eval()", "config.dropout=0.5 в режиме eval()"),
        ),
        replace(
            lossy,
            name=Text("config.dropout=0.5 in train()", "config.dropout=0.5 в режиме train()"),
            kind="dropout",
        ),
    ]


def probes(seed: int) -> list[Probe]:
    """Returns the probes: without the biases, with weights that change nothing, with x = 0."""
    [first, *_] = cases(seed)
    first = replace(first, gradients=False)
    [x], weights = first.inputs, dict(first.weights)
    unbiased = {name: w * ("bias" not in name) for name, w in weights.items()}
    through = {
        "widen_proj.weight": torch.eye(24, 6),
        "narrow_proj.weight": torch.eye(6, 24),
    }
    named = (
        ("all biases are 0", "все сдвиги равны 0", replace(first, weights=unbiased)),
        ("x is 0", "x = 0", replace(first, inputs=(torch.zeros_like(x),))),
        (
            "x is large and positive",
            "x большой и положительный",
            replace(first, inputs=(x.abs() + 20,), weights=weights | through),
        ),
    )
    plain = [Probe(when=Text(en, ru), case=case) for en, ru, case in named]
    when = Text(
        "both layers change nothing and have no bias: the output is GELU(x)",
        "оба слоя ничего не меняют, сдвигов нет: выход равен GELU(x)",
    )
    bare = replace(first, weights=unbiased | through)
    return [*plain, Probe(when=when, case=bare, simplest=True)]


MISTAKES = (
    Mistake(
        name="no_activation",
        edits=(('F.gelu(wide, approximate="tanh")', "wide"),),
        says=Text(
            "There is no activation: two linear layers in a row are one.",
            "Нет функции активации: два линейных слоя подряд - это один.",
        ),
        asks=Text(
            "What can two matrices do that one cannot?",
            "Что могут две матрицы, чего не может одна?",
        ),
    ),
    Mistake(
        name="activation_at_the_end",
        edits=(("self.dropout(y)", 'self.dropout(F.gelu(y, approximate="tanh"))'),),
        says=Text(
            "GELU stands after the second layer as well: no output lies below -0.17.",
            "GELU стоит и после второго слоя: выход никогда не меньше -0.17.",
        ),
        asks=Text(
            "Can your layer write a -3 into the residual stream?",
            "Может ли ваш слой записать в остаточный поток -3?",
        ),
    ),
    Mistake(
        name="exact_gelu",
        edits=((', approximate="tanh"', ""),),
        says=Text(
            "GELU is the exact form (erf); GPT-2 has the tanh form.",
            "GELU взята в точной форме (erf), а у GPT-2 форма с tanh.",
        ),
        asks=Text(
            "Which form of GELU did the first exercise settle on?",
            "На какой форме GELU остановились в первом упражнении?",
        ),
    ),
    Mistake(
        name="relu",
        edits=(('F.gelu(wide, approximate="tanh")', "F.relu(wide)"),),
        says=Text(
            "The activation is ReLU, of the paper of 2017; GPT-2 has GELU.",
            "Функция активации - ReLU из статьи 2017 года, а у GPT-2 GELU.",
        ),
        asks=Text(
            "What comes out of your activation for -1?", "Что выдаёт ваша функция активации при -1?"
        ),
    ),
    Mistake(
        name="activation_first",
        edits=(
            ("self.widen_proj(x)", 'self.widen_proj(F.gelu(x, approximate="tanh"))'),
            ('gated = F.gelu(wide, approximate="tanh")', "gated = wide"),
        ),
        says=Text(
            "GELU stands before the first layer, not between the two.",
            "GELU стоит перед первым слоем, а не между слоями.",
        ),
        asks=Text(
            "How wide is the tensor that GELU gets?", "Какой ширины тензор, который получает GELU?"
        ),
    ),
    Mistake(
        name="residual_inside",
        edits=(("self.dropout(y)", "x + self.dropout(y)"),),
        says=Text(
            "x is added to the output; the block does that.",
            "К выходу прибавлен x, а это делает блок.",
        ),
        asks=Text("Who adds x: this layer or the block?", "Кто прибавляет x: этот слой или блок?"),
    ),
    Mistake(
        name="detached",
        edits=(('F.gelu(wide, approximate="tanh")', 'F.gelu(wide.detach(), approximate="tanh")'),),
        says=Text(
            "The values are right, but no gradient gets to the first layer.",
            "Значения верны, но градиент не доходит до первого слоя.",
        ),
        asks=Text("Can widen_proj learn anything?", "Может ли widen_proj чему-нибудь научиться?"),
    ),
    Mistake(
        name="dropout_in_eval",
        edits=(("self.dropout(y)", "F.dropout(y, self.dropout.p)"),),
        says=Text(
            "Dropout is on in eval() too: F.dropout knows nothing of the mode.",
            "Dropout работает и в режиме eval(): F.dropout ничего не знает о режиме.",
        ),
        asks=Text(
            "Call it twice in eval(): is the result the same?",
            "Вызовите дважды в режиме eval(): результат один и тот же?",
        ),
        is_noise=True,
    ),
    Mistake(
        name="no_dropout",
        edits=(("self.dropout(y)", "y"),),
        says=Text("config.dropout is never used.", "config.dropout не используется."),
        asks=Text("What differs between train() and eval()?", "Чем различаются train() и eval()?"),
    ),
)

EXERCISE = Exercise(
    name="feed-forward",
    file="feedforward.py",
    part=feedforward.FeedForward,
    title=Text("the feed-forward layer", "полносвязный блок (FFN)"),
    formula="FeedForward(x) = GELU(x W1 + b1) W2 + b2",
    task=Text(
        "The feed-forward layer: each position thinks for itself.\n\n"
        "    {formula}\n\n"
        "W1 is widen_proj, from C = config.n_embd channels to 4 C; W2 is narrow_proj, back to C.\n"
        "GELU is the tanh form: use yours, that of gelu.py, or F.gelu(..., approximate='tanh').\n"
        "config.dropout applies to the output, in training only; config.bias says whether the\n"
        "linear layers have biases.",
        "Полносвязный блок: каждая позиция думает сама по себе.\n\n"
        "    {formula}\n\n"
        "W1 - это widen_proj, из C = config.n_embd каналов в 4 C; W2 - narrow_proj, обратно в C.\n"
        "GELU в форме с tanh: ваша, из gelu.py или F.gelu(..., approximate='tanh').\n"
        "config.dropout действует на выход, только при обучении; config.bias говорит, есть ли\n"
        "сдвиги у линейных слоёв.",
    ),
    stub='''import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cfg_gpt2 import GPT2Config


class FeedForward(nn.Module):
    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.widen_proj = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.narrow_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        raise NotImplementedError
''',
    solution=FeedForward,
    oracle=Oracle,
    cases=cases,
    probes=probes,
    mistakes=MISTAKES,
    hints=(
        Text(
            "Write down the shape after each of the three steps: (B, T, C), (B, T, 4C), "
            "(B, T, 4C), (B, T, C). Where does GELU stand?",
            "Выпишите форму после каждого из трёх шагов: (B, T, C), (B, T, 4C), (B, T, 4C), "
            "(B, T, C). Где стоит GELU?",
        ),
    ),
    forbidden=frozenset(),
    look=influence_panels(cases),
)
