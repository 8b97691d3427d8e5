"""Exercise: LayerNorm, against torch's own layer in fp64.

Previous: gelu.py.  Next: feedforward.py.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import layer_norm
from exercises.exercise import Case, Exercise, Mistake, Probe, Text
from exercises.look import influence_panels


class LayerNorm(nn.Module):
    """The solution, one step a line, which the mistakes change."""

    def __init__(self, n_embd: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_embd))
        self.bias = nn.Parameter(torch.zeros(n_embd)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        wide = x.float()
        mean = wide.mean(dim=-1, keepdim=True)  # (..., 1)
        centered = wide - mean  # (..., C)
        variance = centered.square().mean(dim=-1, keepdim=True)  # (..., 1)
        n = centered / torch.sqrt(variance + 1e-5)  # (..., C)
        y = n * self.weight  # (..., C)
        if self.bias is not None:
            y = y + self.bias
        return y.to(x.dtype)


class Oracle(nn.Module):
    """torch's own layer norm, in the dtype of its input."""

    def __init__(self, n_embd: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_embd))
        self.bias = nn.Parameter(torch.zeros(n_embd)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, 1e-5)


def cases(seed: int) -> list[Case]:
    """Returns the cases: no two axes equal, and no weight 1 or bias 0."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def weights(n_embd: int) -> dict[str, Tensor]:
        return {"weight": 1 + 0.3 * draw(n_embd), "bias": 0.3 * draw(n_embd)}

    even = draw(1, 3, 12) * torch.tensor([4e-3, 1.0, 0.0])[:, None]
    axes = ("row", "position", "channel")
    return [
        Case(
            name=Text("2 texts of 5 positions", "2 текста по 5 позиций"),
            arguments=(12,),
            inputs=(3 * draw(2, 5, 12) + 1.5,),
            weights=weights(12),
            axes=axes,
        ),
        Case(
            name=Text("bias=False", "bias=False"),
            arguments=(6, False),
            inputs=(2 * draw(4, 6) - 1,),
            weights={"weight": weights(6)["weight"]},
            axes=axes[1:],
        ),
        Case(
            name=Text(
                "position 0 nearly even, position 2 quite even",
                "в позиции 0 числа почти равны, в позиции 2 равны",
            ),
            arguments=(12,),
            inputs=(even + 0.5,),
            weights=weights(12),
            axes=axes,
            bound=1e-3,  # the deviation is 4e-3, and the numbers are rounded at 6e-8
        ),
        Case(
            name=Text("each position by itself", "каждая позиция сама по себе"),
            arguments=(12,),
            inputs=(draw(1, 5, 12),),
            weights=weights(12),
            axes=("position", "position"),
            kind="influence",
        ),
        Case(
            name=Text("all numbers near 1000", "все числа около 1000"),
            arguments=(12,),
            inputs=(1000 + draw(2, 5, 12),),
            weights=weights(12),
            axes=axes,
            gradients=False,
            bound=4e-3,  # the mean is rounded at 6e-5, the deviation is 1
        ),
        Case(
            name=Text("bf16, all numbers near 200", "bf16, все числа около 200"),
            arguments=(12,),
            inputs=((200 + 0.7 * draw(2, 8, 12)).bfloat16(),),
            weights=weights(12),
            axes=axes,
            gradients=False,
            bound=2e-2,  # one rounding to bf16 is 2e-3
        ),
    ]


def probes(seed: int) -> list[Probe]:
    """Returns the probes: without the scale, without the shift, without both, with mean 0."""
    [first, *_] = cases(seed)
    one, zero = torch.ones(12), torch.zeros(12)
    [x], weights = first.inputs, dict(first.weights)
    plain = {"weight": one, "bias": zero}

    def probe(en: str, ru: str, x: Tensor, weights: dict[str, Tensor]) -> Probe:
        case = replace(first, inputs=(x,), weights=weights, gradients=False)
        return Probe(when=Text(en, ru), case=case)

    told = Text(
        "the means of the positions are {means} (right: 0), the variances {variances} (right: 1).",
        "средние позиций {means} (верно: 0), дисперсии {variances} (верно: 1).",
    )
    bare = probe("weight is 1 and bias is 0", "weight = 1 и bias = 0", x, plain)
    return [
        replace(bare, measure=moments, told=told, simplest=True),
        probe("bias is 0", "bias = 0", x, weights | {"bias": zero}),
        probe("weight is 1", "weight = 1", x, weights | {"weight": one}),
        probe(
            "the mean of each position is 0 already",
            "среднее каждой позиции и так равно 0",
            x - x.mean(-1, keepdim=True),
            weights,
        ),
    ]


def moments(y: Tensor) -> dict[str, str]:
    """Returns the least and the largest mean and variance of the positions."""
    means, variances = y.mean(-1), y.var(-1, correction=0)
    return {
        "means": f"{float(means.min()):.2f} .. {float(means.max()):.2f}",
        "variances": f"{float(variances.min()):.2f} .. {float(variances.max()):.2f}",
    }


MISTAKES = (
    Mistake(
        name="n_minus_1",
        edits=(("centered.square().mean(dim=-1, keepdim=True)", "wide.var(dim=-1, keepdim=True)"),),
        says=Text(
            "The variance of a sample: the sum of squares is divided by C - 1, not by C.",
            "Выборочная дисперсия: сумма квадратов делится на C - 1, а не на C.",
        ),
        asks=Text(
            "By how many numbers does `var` divide when you do not say?",
            "На сколько чисел делит `var`, если не указать?",
        ),
    ),
    Mistake(
        name="eps_outside",
        edits=(("torch.sqrt(variance + 1e-5)", "(torch.sqrt(variance) + 1e-5)"),),
        says=Text(
            "eps is added to the deviation, behind the root. Nearly even positions show it.",
            "eps прибавляется к отклонению, после корня. Это видно там, где числа почти равны.",
        ),
        asks=Text(
            "Where does eps stand in the formula: under the root or beside it?",
            "Где в формуле стоит eps: под корнем или рядом с ним?",
        ),
    ),
    Mistake(
        name="no_eps",
        edits=(("variance + 1e-5", "variance"),),
        says=Text(
            "eps is left out: a position of equal channels divides 0 by 0.",
            "eps пропущен: в позиции с равными каналами 0 делится на 0.",
        ),
        asks=Text(
            "What is the variance of twelve equal numbers?",
            "Чему равна дисперсия двенадцати равных чисел?",
        ),
    ),
    Mistake(
        name="eps_1e_6",
        edits=(("1e-5", "1e-6"),),
        says=Text("eps is 1e-6; GPT-2 has 1e-5.", "eps равен 1e-6, а у GPT-2 он 1e-5."),
        asks=Text("Which eps does the task name?", "Какой eps назван в задании?"),
    ),
    Mistake(
        name="over_positions",
        edits=(("dim=-1", "dim=-2"),),
        says=Text(
            "Mean and variance are taken over the positions of a text, which see each other then.",
            "Среднее и дисперсия берутся по позициям текста, и позиции видят друг друга.",
        ),
        asks=Text(
            "Whose mean is it: that of one position, or that of one channel?",
            "Чьё это среднее: одной позиции или одного канала?",
        ),
    ),
    Mistake(
        name="over_everything",
        edits=(("dim=-1", "dim=(-2, -1)"),),
        says=Text(
            "Mean and variance are taken over a whole text, so its positions see each other.",
            "Среднее и дисперсия берутся по всему тексту, и его позиции видят друг друга.",
        ),
        asks=Text(
            "How many means does a text of 5 positions have?",
            "Сколько средних у текста из 5 позиций?",
        ),
    ),
    Mistake(
        name="rms",
        edits=(("centered = wide - mean", "centered = wide"),),
        says=Text(
            "The mean is not taken off: this is RMSNorm, of other models.",
            "Среднее не вычитается: это RMSNorm из других моделей.",
        ),
        asks=Text(
            "What is the mean of your n over one position?",
            "Чему равно среднее вашего n по одной позиции?",
        ),
    ),
    Mistake(
        name="variance_for_deviation",
        edits=(("torch.sqrt(variance + 1e-5)", "(variance + 1e-5)"),),
        says=Text(
            "The numbers are divided by the variance: the root is missing.",
            "Числа делятся на дисперсию: пропущен корень.",
        ),
        asks=Text(
            "What is the variance of your n, and what should it be?",
            "Какая дисперсия у вашего n и какой она должна быть?",
        ),
    ),
    Mistake(
        name="not_divided",
        edits=(("centered / torch.sqrt(variance + 1e-5)", "centered"),),
        says=Text(
            "The mean is taken off, but nothing is divided by the deviation.",
            "Среднее вычитается, но на отклонение ничего не делится.",
        ),
        asks=Text(
            "What is the variance of your n, and what should it be?",
            "Какая дисперсия у вашего n и какой она должна быть?",
        ),
    ),
    Mistake(
        name="no_weight",
        edits=(("n * self.weight", "n"),),
        says=Text("The learned scale is left out.", "Обучаемый масштаб weight не используется."),
        asks=Text("Which parameter gets no gradient?", "Какой параметр не получает градиента?"),
    ),
    Mistake(
        name="no_bias",
        edits=(("y = y + self.bias", "pass"),),
        says=Text("The learned shift is left out.", "Обучаемый сдвиг bias не прибавляется."),
        asks=Text("Which parameter gets no gradient?", "Какой параметр не получает градиента?"),
    ),
    Mistake(
        name="detached",
        edits=(
            ("mean = wide.mean(dim=-1, keepdim=True)", "mean = wide.mean(-1, True).detach()"),
            (
                "centered.square().mean(dim=-1, keepdim=True)",
                "centered.square().mean(-1, True).detach()",
            ),
        ),
        says=Text(
            "The values are right, but mean and variance are cut out of the graph.",
            "Значения верны, но среднее и дисперсия вырезаны из графа.",
        ),
        asks=Text(
            "If one x grows, does the mean of its position stay where it is?",
            "Если один x растёт, остаётся ли на месте среднее его позиции?",
        ),
    ),
    Mistake(
        name="one_pass_variance",
        edits=(
            (
                "centered.square().mean(dim=-1, keepdim=True)",
                "wide.square().mean(dim=-1, keepdim=True) - mean.square()",
            ),
        ),
        says=Text(
            "The variance is mean(x^2) - mean(x)^2: for numbers near 1000 two numbers near a "
            "million are subtracted, and fp32 has 7 digits.",
            "Дисперсия считается как mean(x^2) - mean(x)^2: у чисел около 1000 вычитаются два "
            "числа около миллиона, а в fp32 только 7 цифр.",
        ),
        asks=Text(
            "Which two large numbers are subtracted from each other here?",
            "Какие два больших числа здесь вычитаются друг из друга?",
        ),
        is_noise=True,
    ),
    Mistake(
        name="bf16_statistics",
        edits=(("wide = x.float()", "wide = x"),),
        says=Text(
            "In fp32 all is right; of a bf16 x, mean and variance are computed in bf16, which has "
            "2 to 3 digits.",
            "В fp32 всё верно; у x в bf16 среднее и дисперсия считаются в bf16, где 2-3 цифры.",
        ),
        asks=Text(
            "How many digits does bf16 have, and how large is your x?",
            "Сколько значащих цифр у bf16 и насколько велик ваш x?",
        ),
        is_noise=True,
    ),
)

EXERCISE = Exercise(
    name="layer-norm",
    file="layer_norm.py",
    part=layer_norm.LayerNorm,
    title=Text("LayerNorm", "LayerNorm, нормализация слоя"),
    formula="y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias,  eps = 1e-5",
    task=Text(
        "LayerNorm: every position gets mean 0 and variance 1 over its channels, then a learned\n"
        "scale and shift.\n\n"
        "    {formula}\n\n"
        "Mean and variance are those of one position, over its C channels (the last dimension);\n"
        "var is the mean of the squared deviations. They are computed in fp32, whatever the dtype\n"
        "of x, and y is returned in the dtype of x. With bias=False there is no bias.\n\n"
        "Not to be used: torch's own layer_norm, LayerNorm, rms_norm, group_norm, batch_norm.",
        "LayerNorm: числа каждой позиции получают среднее 0 и дисперсию 1 по её каналам, потом\n"
        "обучаемый масштаб и сдвиг.\n\n"
        "    {formula}\n\n"
        "Среднее и дисперсия берутся у одной позиции по её C каналам (последнее измерение); var -\n"
        "среднее квадратов отклонений. Они считаются в fp32, какого бы типа ни был x, а y\n"
        "возвращается в типе x. При bias=False сдвига нет.\n\n"
        "Нельзя использовать: готовые layer_norm, LayerNorm, rms_norm, group_norm, batch_norm.",
    ),
    stub='''from dataclasses import replace

import torch
from torch import Tensor, nn


class LayerNorm(nn.Module):
    def __init__(self, n_embd: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_embd))
        self.bias = nn.Parameter(torch.zeros(n_embd)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        raise NotImplementedError
''',
    solution=LayerNorm,
    oracle=Oracle,
    cases=cases,
    probes=probes,
    mistakes=MISTAKES,
    hints=(
        Text(
            "Take one position with three channels, 1 2 3. What are its mean, its variance and its "
            "normalized numbers? Does your code give them?",
            "Возьмите одну позицию с тремя каналами: 1 2 3. Каковы среднее, дисперсия и "
            "нормированные числа? Даёт ли их ваш код?",
        ),
    ),
    forbidden=frozenset(
        ["layer_norm", "LayerNorm", "rms_norm", "RMSNorm", "group_norm", "GroupNorm", "batch_norm",
         "BatchNorm1d", "instance_norm", "native_layer_norm"]
    ),
    look=influence_panels(cases),
)  # fmt: skip
