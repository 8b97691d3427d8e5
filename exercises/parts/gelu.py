"""Exercise: GELU, against torch's tanh form in fp64.

Previous: ../command.py.  Next: layer_norm.py.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gelu
from exercises.exercise import Case, Exercise, Mistake, Panel, Part, Probe, Text


class GELU(nn.Module):
    """The solution, one step a line, which the mistakes change."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        gate = 0.5 * (1 + torch.tanh(inner))
        return x * gate


class Oracle(nn.Module):
    """torch's own GELU, in the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return F.gelu(x, approximate="tanh")


def cases(seed: int) -> list[Case]:
    """Returns the cases: the bend, random numbers, large ones, bf16."""
    generator = torch.Generator().manual_seed(seed)
    names = [
        (Text("97 points from -6 to 6", "97 точек от -6 до 6"), torch.linspace(-6, 6, 97)),
        (Text("random numbers", "случайные числа"), 2 * torch.randn(2, 5, 3, generator=generator)),
        (Text("very large numbers", "очень большие числа"), torch.tensor([-1e4, -50, 50, 1e4])),
    ]
    axes = ("row", "position", "channel")
    plain = [Case(name=n, arguments=(), inputs=(x,), axes=axes[3 - x.dim() :]) for n, x in names]
    rounded = Case(
        name=Text("bf16", "bf16"),
        arguments=(),
        inputs=(torch.linspace(-4, 4, 33).bfloat16(),),
        axes=axes[2:],
        gradients=False,
        bound=3e-2,  # a few roundings to bf16, 4e-3 each
    )
    return [*plain, rounded]


def probes(seed: int) -> list[Probe]:
    """Returns one probe: the number inside tanh, read off the output."""
    x = torch.cat([torch.linspace(-2, -0.5, 13), torch.linspace(0.5, 2, 13)])
    case = Case(name=Text("", ""), arguments=(), inputs=(x,), axes=("channel",), gradients=False)

    def inner_of(y: Tensor) -> Tensor:
        return torch.atanh(2 * y / x.double() - 1)

    when = Text(
        "only the number inside tanh is compared", "сравнивать только число под знаком tanh"
    )
    return [Probe(when=when, case=case, derive=inner_of)]


def curve(part: Part) -> list[Panel]:
    """Returns the curve from -3 to 3 as a map: a row for each quarter of y."""
    x = torch.linspace(-3, 3, 25)
    y = part()(x).detach()
    heights = torch.arange(12, -3, -1) / 4  # 3 to -0.5
    nearest = (y[None] - heights[:, None]).abs()
    values = (nearest == nearest.amin(0)).float()
    title = Text("the curve", "кривая")
    labels = tuple(f"{h:+.2f}" for h in heights.tolist())
    columns = tuple(f"{v:g}" if v % 1 == 0 else "" for v in x.tolist())
    return [Panel(title=title, values=values, labels=labels, columns=columns)]


MISTAKES = (
    Mistake(
        name="exact",
        edits=(("0.5 * (1 + torch.tanh(inner))", "0.5 * (1 + torch.erf(x / math.sqrt(2)))"),),
        says=Text(
            "This is the exact form with Phi (erf); GPT-2 has the tanh form. They differ by 5e-4.",
            "Это точная форма с Ф (erf), а у GPT-2 форма с tanh. Они различаются на 5e-4.",
        ),
        asks=Text(
            "Two formulas share the name. Which one were GPT-2's weights trained with?",
            "Под этим именем известны две формулы. С какой обучали GPT-2?",
        ),
    ),
    Mistake(
        name="half",
        edits=(("0.5 * (1", "(1"),),
        says=Text("The 1/2 is missing.", "Пропущена 1/2."),
        asks=Text(
            "What should come out for a very large x?",
            "Что должно получиться при очень большом x?",
        ),
    ),
    Mistake(
        name="no_cube",
        edits=(("x + 0.044715 * x**3", "x"),),
        says=Text("The term 0.044715 x^3 is left out.", "Пропущено слагаемое 0.044715 x^3."),
        asks=Text(
            "Compare small and large x. Which term grows only there?",
            "Сравните малые и большие x. Какое слагаемое заметно только при больших?",
        ),
    ),
    Mistake(
        name="square",
        edits=(("x**3", "x**2"),),
        says=Text("There is x^2 where x^3 belongs.", "Вместо x^3 стоит x^2."),
        asks=Text(
            "The inner term must change its sign with x. Does it?",
            "Внутреннее слагаемое должно менять знак вместе с x. Меняет?",
        ),
    ),
    Mistake(
        name="constant",
        edits=(("0.044715", "0.44715"),),
        says=Text(
            "The constant is 0.44715, ten times too large.", "Константа 0.44715, в 10 раз больше."
        ),
        asks=Text("How many zeros has the constant?", "Сколько нулей в константе?"),
    ),
    Mistake(
        name="no_root",
        edits=(("math.sqrt(2 / math.pi)", "(2 / math.pi)"),),
        says=Text("2/pi stands there without its root.", "2/pi стоит без корня."),
        asks=Text(
            "Which constant makes tanh follow Phi at 0?",
            "Какая константа заставляет tanh идти вдоль Ф около нуля?",
        ),
    ),
    Mistake(
        name="sigmoid_1702",
        edits=(("0.5 * (1 + torch.tanh(inner))", "torch.sigmoid(1.702 * x)"),),
        says=Text(
            "This is the coarse form x sigmoid(1.702 x) of other networks.",
            "Это грубая форма x sigmoid(1.702 x) из других сетей.",
        ),
        asks=Text(
            "It is fast, but of another network. What does the formula above say?",
            "Это быстрая замена из других сетей. Что сказано в формуле выше?",
        ),
    ),
    Mistake(
        name="silu",
        edits=(("0.5 * (1 + torch.tanh(inner))", "torch.sigmoid(x)"),),
        says=Text("This is SiLU, x sigmoid(x).", "Это SiLU, x sigmoid(x)."),
        asks=Text("Where does tanh stand in your code?", "Где в вашем коде tanh?"),
    ),
    Mistake(
        name="relu",
        edits=(("x * gate", "x.clamp(min=0)"),),
        says=Text(
            "This is ReLU: no small negative numbers come through.",
            "Это ReLU: малые отрицательные числа не проходят.",
        ),
        asks=Text("What is GELU(-1)?", "Чему равно GELU(-1)?"),
    ),
    Mistake(
        name="tanh_without_one",
        edits=(("1 + torch.tanh(inner)", "torch.tanh(inner)"),),
        says=Text("The 1 + before tanh is missing.", "Перед tanh пропущено 1 +."),
        asks=Text(
            "What is the gate at x = 0, and what should it be?",
            "Чему равен множитель при x = 0 и чему должен?",
        ),
    ),
    Mistake(
        name="no_x",
        edits=(("x * gate", "gate"),),
        says=Text(
            "Only the gate is returned; x is not multiplied by it.",
            "Возвращается только множитель; x на него не умножен.",
        ),
        asks=Text(
            "What should come out for a very large x?", "Что должно получиться при очень большом x?"
        ),
    ),
    Mistake(
        name="detached",
        edits=(("x * gate", "x * gate.detach()"),),
        says=Text(
            "The values are right, but the gate is cut out of the graph.",
            "Значения верны, но множитель вырезан из графа.",
        ),
        asks=Text(
            "The gate depends on x too. Does its slope count?",
            "Множитель тоже зависит от x. Учтена ли его производная?",
        ),
    ),
)

EXERCISE = Exercise(
    name="gelu",
    file="gelu.py",
    part=gelu.GELU,
    title=Text("GELU, the activation", "GELU, функция активации"),
    formula="GELU(x) = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))",
    task=Text(
        "GELU: a smooth gate that lets large numbers through, and small negative ones a little.\n\n"
        "    {formula}\n\n"
        "Any shape goes in, and the same shape comes out.\n\n"
        "Not to be used: torch's own gelu and GELU.",
        "GELU: плавный вентиль: большие числа проходят, малые отрицательные - слегка.\n\n"
        "    {formula}\n\n"
        "Форма входа любая, форма выхода та же.\n\n"
        "Нельзя использовать: готовые gelu и GELU.",
    ),
    stub='''import math

import torch
from torch import Tensor, nn


class GELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        raise NotImplementedError
''',
    solution=GELU,
    oracle=Oracle,
    cases=cases,
    probes=probes,
    mistakes=MISTAKES,
    hints=(
        Text(
            "Compute the formula by hand for x = 1: the inner bracket, the root, tanh, the gate. "
            "At which step does your code give another number? (0.8412 is right.)",
            "Посчитайте формулу вручную для x = 1: скобка, корень, tanh, множитель. На каком шаге "
            "ваш код даёт другое число? (Верно 0.8412.)",
        ),
    ),
    forbidden=frozenset(["gelu", "GELU"]),
    look=curve,
)
