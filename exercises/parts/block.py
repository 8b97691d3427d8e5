"""Exercise: the transformer block, against torch's own layers in fp64.

Previous: attention.py.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

import transformer_block
from cfg_gpt2 import GPT2Config
from exercises.exercise import Case, Exercise, Mistake, Probe, Text
from exercises.look import influence_panels
from exercises.parts import attention as attention_exercise
from exercises.parts import feedforward as feedforward_exercise
from feedforward import FeedForward
from layer_norm import LayerNorm
from multiheadattention import MultiHeadAttention

IMPORTS = """from feedforward import FeedForward
from layer_norm import LayerNorm
from multiheadattention import MultiHeadAttention
"""


class TransformerBlock(nn.Module):
    """The solution, one step a line, which the mistakes change."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(config.n_embd, bias=config.bias)
        self.attention = MultiHeadAttention(config)
        self.feedforward_norm = LayerNorm(config.n_embd, bias=config.bias)
        self.feedforward = FeedForward(config)

    def forward(self, x: Tensor, cache: None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        gathered = self.attention(self.attention_norm(x))  # (B, T, C)
        y = x + gathered  # (B, T, C)
        thought = self.feedforward(self.feedforward_norm(y))  # (B, T, C)
        return y + thought  # (B, T, C)


class Oracle(nn.Module):
    """The same of torch's own layer norm and of the oracles of the exercises before."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attention = attention_exercise.Oracle(config)
        self.feedforward_norm = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.feedforward = feedforward_exercise.Oracle(config)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = torch.add(x, self.attention(self.attention_norm(x)))
        return torch.add(x, self.feedforward(self.feedforward_norm(x)))


def cases(seed: int) -> list[Case]:
    """Returns the cases: two sizes, no biases, influence; no norm with weight 1 or bias 0."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def weights(n_embd: int, *, bias: bool = True) -> dict[str, Tensor]:
        of_attention = attention_exercise.weights_of(n_embd, generator, bias=bias)
        of_feedforward = feedforward_exercise.weights_of(n_embd, generator, bias=bias)
        drawn = {f"attention.{name}": w for name, w in of_attention.items()}
        drawn |= {f"feedforward.{name}": w for name, w in of_feedforward.items()}
        for norm in ("attention_norm", "feedforward_norm"):
            drawn[f"{norm}.weight"] = 1 + 0.4 * draw(n_embd)
            if bias:
                drawn[f"{norm}.bias"] = 0.4 * draw(n_embd)
        return drawn

    axes = ("row", "position", "channel")
    first = Case(
        name=Text("12 channels", "12 каналов"),
        arguments=(feedforward_exercise.config_of(12, 3),),
        inputs=(2 * draw(2, 7, 12) + 0.5,),
        weights=weights(12),
        axes=axes,
    )
    return [
        first,
        Case(
            name=Text("8 channels, config.bias=False", "8 каналов, config.bias=False"),
            arguments=(feedforward_exercise.config_of(8, 4, bias=False),),
            inputs=(2 * draw(3, 5, 8) - 0.5,),
            weights=weights(8, bias=False),
            axes=axes,
        ),
        replace(
            first,
            name=Text("no position sees a later one", "ни одна позиция не видит более поздних"),
            inputs=(draw(1, 6, 12),),
            axes=("position", "position"),
            kind="influence",
        ),
    ]


def probes(seed: int) -> list[Probe]:
    """Returns the probes: without either layer, and without both."""
    [first, *_] = cases(seed)
    first, weights = replace(first, gradients=False), dict(first.weights)

    def without(*layers: str) -> Case:
        silent = {
            name: w * 0 if name.startswith(layers) and "norm" not in name else w
            for name, w in weights.items()
        }
        return replace(first, weights=silent)

    plain = {
        name: w * 0 + 1 if name.endswith("norm.weight") else w * 0
        for name, w in weights.items()
        if "norm" in name
    }
    named = (
        ("attention adds 0", "внимание прибавляет 0", without("attention.")),
        ("feed-forward adds 0", "полносвязный блок прибавляет 0", without("feedforward.")),
        (
            "both norms have weight 1 and bias 0",
            "у обеих норм weight = 1 и bias = 0",
            replace(first, weights=weights | plain),
        ),
    )
    found = [Probe(when=Text(en, ru), case=case) for en, ru, case in named]
    when = Text("both layers add 0: the output is x", "оба слоя прибавляют 0: выход равен x")
    return [*found, Probe(when=when, case=without("attention.", "feedforward."), simplest=True)]


FIRST = "self.attention(self.attention_norm(x))"
SECOND = "self.feedforward(self.feedforward_norm(y))"
MISTAKES = (
    Mistake(
        name="post_norm",
        edits=(
            (FIRST, "self.attention(x)"),
            ("y = x + gathered", "y = self.attention_norm(x + gathered)"),
            (SECOND, "self.feedforward(y)"),
            ("return y + thought", "return self.feedforward_norm(y + thought)"),
        ),
        says=Text(
            "The norms stand after the additions (2017), not before the layers (GPT-2).",
            "Нормы стоят после сложений (2017), а не перед слоями (GPT-2).",
        ),
        asks=Text(
            "Is there a way from input to output through additions alone?",
            "Есть ли путь от входа к выходу, состоящий из одних сложений?",
        ),
    ),
    Mistake(
        name="no_first_residual",
        edits=(("y = x + gathered", "y = gathered"),),
        says=Text(
            "The first addition is missing: attention replaces x.",
            "Пропущено первое сложение: внимание заменяет x.",
        ),
        asks=Text(
            "Let both layers give 0. What must the block return?",
            "Пусть оба слоя выдают 0. Что должен вернуть блок?",
        ),
    ),
    Mistake(
        name="no_second_residual",
        edits=(("return y + thought", "return thought"),),
        says=Text(
            "The second addition is missing: feed-forward replaces x.",
            "Пропущено второе сложение: полносвязный блок заменяет x.",
        ),
        asks=Text(
            "Let both layers give 0. What must the block return?",
            "Пусть оба слоя выдают 0. Что должен вернуть блок?",
        ),
    ),
    Mistake(
        name="parallel",
        edits=(("self.feedforward_norm(y)", "self.feedforward_norm(x)"),),
        says=Text(
            "Both layers read the same x (as in GPT-J): feed-forward does not see attention's "
            "output.",
            "Оба слоя читают один и тот же x (как в GPT-J): второй не видит выхода внимания.",
        ),
        asks=Text("Which x does the second layer read?", "Какой x читает второй слой?"),
    ),
    Mistake(
        name="second_from_input",
        edits=(("return y + thought", "return x + thought"),),
        says=Text(
            "The second addition starts from the block's input: attention's output is lost.",
            "Второе сложение начинается со входа блока: выход внимания теряется.",
        ),
        asks=Text("Was x overwritten, or kept?", "x перезаписан или остался прежним?"),
    ),
    Mistake(
        name="residual_of_the_normed",
        edits=(
            ("y = x + gathered", "y = self.attention_norm(x) + gathered"),
            ("return y + thought", "return self.feedforward_norm(y) + thought"),
        ),
        says=Text(
            "The layers' outputs are added to the norms of x, not to x.",
            "Выходы слоёв прибавляются к норме x, а не к самому x.",
        ),
        asks=Text("What is added to: x, or its norm?", "К чему прибавляют: к x или к его норме?"),
    ),
    Mistake(
        name="one_norm_twice",
        edits=(("self.feedforward_norm(y)", "self.attention_norm(y)"),),
        says=Text(
            "The first norm is used twice, the second one never.",
            "Первая норма используется дважды, вторая ни разу.",
        ),
        asks=Text("Which norm's weights get no gradient?", "Чьи веса не получают градиента?"),
    ),
    Mistake(
        name="norms_swapped",
        edits=(
            (FIRST, "self.attention(self.feedforward_norm(x))"),
            (
                SECOND,
                "self.feedforward(self.attention_norm(y))",
            ),
        ),
        says=Text("The two norms are exchanged.", "Две нормы поменялись местами."),
        asks=Text("Which norm stands before attention?", "Какая норма стоит перед вниманием?"),
    ),
    Mistake(
        name="feedforward_first",
        edits=(
            (
                FIRST,
                "self.feedforward(self.feedforward_norm(x))",
            ),
            (
                SECOND,
                "self.attention(self.attention_norm(y))",
            ),
        ),
        says=Text(
            "The two halves are exchanged: feed-forward comes first.",
            "Две половины поменялись местами: полносвязный блок идёт первым.",
        ),
        asks=Text(
            "Which comes first: attention or feed-forward?",
            "Что идёт раньше: внимание или полносвязный блок?",
        ),
    ),
    Mistake(
        name="no_norms",
        edits=(
            ("self.attention_norm(x)", "x"),
            ("self.feedforward_norm(y)", "y"),
        ),
        says=Text("The norms are never used.", "Нормы не используются."),
        asks=Text("Which parameters get no gradient?", "Какие параметры не получают градиента?"),
    ),
    Mistake(
        name="norm_after_layer",
        edits=(
            (FIRST, "self.attention_norm(self.attention(x))"),
            (
                SECOND,
                "self.feedforward_norm(self.feedforward(y))",
            ),
        ),
        says=Text(
            "Each norm stands behind its layer, not before it.",
            "Каждая норма стоит после своего слоя, а не перед ним.",
        ),
        asks=Text("What does a layer read: x, or its norm?", "Что читает слой: x или его норму?"),
    ),
)

EXERCISE = Exercise(
    name="block",
    file="transformer_block.py",
    part=transformer_block.TransformerBlock,
    title=Text("the transformer block", "блок трансформера"),
    formula="x = x + Attention(LayerNorm(x));  x = x + FeedForward(LayerNorm(x))",
    task=Text(
        "The transformer block: positions talk to each other, then each thinks for itself.\n\n"
        "    x = x + Attention(LayerNorm(x))\n"
        "    x = x + FeedForward(LayerNorm(x))\n\n"
        "Each half has a norm of its own: attention_norm and feedforward_norm. The three kinds of\n"
        "layers are those of the root files. Leave cache alone: it comes later.",
        "Блок трансформера: позиции обмениваются сведениями, потом каждая думает сама.\n\n"
        "    x = x + Attention(LayerNorm(x))\n"
        "    x = x + FeedForward(LayerNorm(x))\n\n"
        "У каждой половины своя норма: attention_norm и feedforward_norm. Три вида слоёв взяты из\n"
        "корневых файлов. Аргумент cache не трогайте: он понадобится позже.",
    ),
    stub='''from torch import Tensor, nn

from cfg_gpt2 import GPT2Config
from feedforward import FeedForward
from layer_norm import LayerNorm
from multiheadattention import MultiHeadAttention


class TransformerBlock(nn.Module):
    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.attention_norm = LayerNorm(config.n_embd, bias=config.bias)
        self.attention = MultiHeadAttention(config)
        self.feedforward_norm = LayerNorm(config.n_embd, bias=config.bias)
        self.feedforward = FeedForward(config)

    def forward(self, x: Tensor, cache: None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        raise NotImplementedError
''',
    imports=IMPORTS,
    solution=TransformerBlock,
    oracle=Oracle,
    cases=cases,
    probes=probes,
    mistakes=MISTAKES,
    hints=(
        Text(
            "Draw the stream of x as a straight line. What leaves it, through which norm, and "
            "where is it added again?",
            "Нарисуйте поток x прямой линией. Что от неё отходит, через какую норму и где "
            "прибавляется обратно?",
        ),
    ),
    forbidden=frozenset(),
    look=influence_panels(cases),
)
