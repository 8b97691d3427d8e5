"""Exercise: the causal softmax, against a loop over the queries in fp64.

Previous: feedforward.py.  Next: attention.py.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

import multiheadattention
from exercises.exercise import Case, Exercise, Mistake, Panel, Part, Probe, Text


class CausalSoftmax(nn.Module):
    """The solution, one step a line, which the mistakes change."""

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, H, T, S) -> (B, H, T, S)."""
        T, S = scores.shape[-2:]
        later = torch.ones(T, S, dtype=torch.bool, device=scores.device).triu(S - T + 1)  # (T, S)
        hidden = scores.masked_fill(later, -math.inf)  # (B, H, T, S)
        return hidden.softmax(dim=-1)  # (B, H, T, S)


class Oracle(nn.Module):
    """One softmax for each query, over the keys that it may see."""

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, H, T, S) -> (B, H, T, S)."""
        n_queries, n_keys = scores.shape[-2:]
        rows = []
        for t in range(n_queries):
            n_seen = n_keys - n_queries + t + 1
            weights = torch.softmax(scores[..., t, :n_seen], dim=-1)
            rows.append(nn.functional.pad(weights, (0, n_keys - n_seen)))
        return torch.stack(rows, dim=-2)


def cases(seed: int) -> list[Case]:
    """Returns the cases: as many keys as queries, more keys, one query, large scores, bf16."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return 2 * torch.randn(shape, generator=generator)

    far = draw(1, 2, 4, 7) + torch.tensor([1e4, -1e4])[:, None, None]
    named = (
        (Text("6 queries, 6 keys", "6 запросов, 6 ключей"), draw(2, 3, 6, 6)),
        (Text("5 queries, 8 keys", "5 запросов, 8 ключей"), draw(2, 3, 5, 8)),
        (Text("1 query, 7 keys", "1 запрос, 7 ключей"), draw(2, 3, 1, 7)),
        (Text("scores near 10000 and -10000", "оценки около 10000 и -10000"), far),
    )
    axes = ("row", "head", "query", "key")
    plain = [Case(name=name, arguments=(), inputs=(x,), axes=axes) for name, x in named]
    rounded = Case(
        name=Text("bf16", "bf16"),
        arguments=(),
        inputs=(draw(2, 3, 5, 8).bfloat16(),),
        axes=axes,
        gradients=False,
        bound=5e-2,  # some roundings to bf16, 4e-3 each
    )
    return [*plain, rounded]


def probes(seed: int) -> list[Probe]:
    """Returns the probes: equal scores, and the scores read off the weights."""
    [first, *_] = cases(seed)
    even = replace(first, inputs=(torch.zeros(1, 2, 4, 4),), gradients=False)
    return [
        Probe(when=Text("all scores are 0", "все оценки равны 0"), case=even, simplest=True),
        Probe(
            when=Text(
                "only the logarithms of the weights, which are the scores, are compared",
                "сравнивать только логарифмы весов, то есть оценки",
            ),
            case=replace(first, gradients=False),
            derive=scores_behind,
        ),
    ]


def scores_behind(weights: Tensor) -> Tensor:
    """Returns the scores behind weights, (..., T, T), less their mean over the keys seen."""
    seen = torch.ones(weights.shape[-2:], dtype=torch.bool).tril()
    logs = torch.where(seen, weights.clamp(min=1e-30).log(), 0.0)
    mean = logs.sum(-1, keepdim=True) / seen.sum(-1, keepdim=True)
    return torch.where(seen, logs - mean, 0.0)


def weights_of(part: Part) -> list[Panel]:
    """Returns the weights of random scores."""
    [first, *_] = cases(1)
    values = part()(first.inputs[0]).detach()[0, 0]
    labels = tuple(map(str, range(values.size(0))))
    return [Panel(title=Text("weights", "веса"), values=values, labels=labels)]


MISTAKES = (
    Mistake(
        name="no_mask",
        edits=(("scores.masked_fill(later, -math.inf)", "scores"),),
        says=Text(
            "There is no mask: each position looks at the later ones too.",
            "Нет маски: каждая позиция смотрит и на более поздние.",
        ),
        asks=Text("What may position 0 see?", "Что может видеть позиция 0?"),
    ),
    Mistake(
        name="hides_itself",
        edits=(("triu(S - T + 1)", "triu(S - T)"),),
        says=Text(
            "The diagonal is hidden too: a position may not look at itself, and the first one has "
            "nothing left (NaN).",
            "Скрыта и диагональ: позиция не видит саму себя, а первой не остаётся ничего (NaN).",
        ),
        asks=Text("What is left for the first position?", "Что остаётся первой позиции?"),
    ),
    Mistake(
        name="one_later",
        edits=(("triu(S - T + 1)", "triu(S - T + 2)"),),
        says=Text(
            "The mask is one off: position t sees position t + 1, the very token to be predicted.",
            "Маска сдвинута на один: позиция t видит t + 1, то есть угадываемый токен.",
        ),
        asks=Text(
            "Print the mask for T = 3 and read row 0: how many positions are open?",
            "Напечатайте маску при T = 3 и прочтите строку 0: сколько позиций открыто?",
        ),
    ),
    Mistake(
        name="first_key",
        edits=(("triu(S - T + 1)", "triu(1)"),),
        says=Text(
            "The mask is aligned to the first key: right for T = S, wrong for more keys than "
            "queries.",
            "Маска выровнена по первому ключу: при T = S верно, а когда ключей больше, неверно.",
        ),
        asks=Text(
            "Five queries ask, eight keys are there: which keys are the new positions' own?",
            "Запросов пять, ключей восемь: какие ключи принадлежат новым позициям?",
        ),
    ),
    Mistake(
        name="hides_the_past",
        edits=(("triu(S - T + 1)", "tril(S - T - 1)"),),
        says=Text(
            "The mask is upside down: the past is hidden and the future is open.",
            "Маска перевёрнута: скрыто прошлое, а будущее открыто.",
        ),
        asks=Text("What may the last position see?", "Что может видеть последняя позиция?"),
    ),
    Mistake(
        name="over_queries",
        edits=(("softmax(dim=-1)", "softmax(dim=-2)"),),
        says=Text(
            "The softmax runs over the queries: columns sum to 1, not rows.",
            "Softmax взят по запросам: в сумме 1 дают столбцы, а не строки.",
        ),
        asks=Text(
            "Which numbers must share the 1: the weights of one query or those of one key?",
            "Какие числа должны давать в сумме 1: веса одного запроса или одного ключа?",
        ),
    ),
    Mistake(
        name="over_heads",
        edits=(("softmax(dim=-1)", "softmax(dim=1)"), ("-math.inf", "-1e9")),
        says=Text(
            "The softmax runs over the heads: they share the 1, not the keys.",
            "Softmax взят по головам: 1 делят они, а не ключи.",
        ),
        asks=Text("What is the last axis of the scores?", "Что стоит на последней оси оценок?"),
    ),
    Mistake(
        name="zero_for_minus_inf",
        edits=(("-math.inf", "0.0"),),
        says=Text(
            "Hidden scores are set to 0, and 0 is a score like others.",
            "Скрытые оценки заменены на 0, а 0 - такая же оценка, как другие.",
        ),
        asks=Text("What is exp(0)?", "Чему равна exp(0)?"),
    ),
    Mistake(
        name="filled_with_10000",
        edits=(("-math.inf", "-1e4"),),
        says=Text(
            "Hidden scores are set to -10000, and other scores may be as small.",
            "Скрытые оценки заменены на -10000, а такими малыми бывают и другие.",
        ),
        asks=Text("Which number is smaller than every score?", "Какое число меньше любой оценки?"),
    ),
    Mistake(
        name="after_not_renormalized",
        edits=(
            ("scores.masked_fill(later, -math.inf)", "scores"),
            ("hidden.softmax(dim=-1)", "hidden.softmax(dim=-1).masked_fill(later, 0.0)"),
        ),
        says=Text(
            "Weights are set to 0 after the softmax: what they had is missing in the sum.",
            "Веса обнуляются после softmax: их доли не хватает в сумме.",
        ),
        asks=Text(
            "Who gets the share of what was erased?", "Кому достаётся доля обнулённых весов?"
        ),
    ),
    Mistake(
        name="overflow",
        edits=(
            ("hidden.softmax(dim=-1)", "hidden.exp() / hidden.exp().sum(dim=-1, keepdim=True)"),
        ),
        says=Text(
            "exp overflows from scores of about 89 on: the largest of each row is not taken off.",
            "При оценках больше 89 exp переполняется: из строки не вычтено её наибольшее число.",
        ),
        asks=Text(
            "Which number can be taken off every score of a row without a consequence?",
            "Какое число можно вычесть из всех оценок строки без последствий?",
        ),
    ),
    Mistake(
        name="detached",
        edits=(("hidden.softmax(dim=-1)", "hidden.detach().softmax(dim=-1)"),),
        says=Text(
            "The values are right, but no gradient gets back to the scores.",
            "Значения верны, но градиент не доходит до оценок.",
        ),
        asks=Text("How do the scores learn?", "Как обучаются оценки?"),
    ),
)

EXERCISE = Exercise(
    name="causal-softmax",
    file="causal_softmax.py",
    part=multiheadattention.CausalSoftmax,
    title=Text("the causal softmax", "каузальный softmax"),
    formula="weights[t] = softmax(scores[t, 0 .. S - T + t]),  0 for later keys",
    task=Text(
        "The causal softmax: scores become weights, and no position looks at a later one.\n\n"
        "    {formula}\n\n"
        "scores is (B, H, T, S): T queries, S keys, S >= T. The queries are the last T of the S\n"
        "positions: the first query may see S - T + 1 keys, the last one all S. Every row of\n"
        "weights sums to 1 over the keys (the last dimension). Scores may be large: +-10000.\n"
        "weights has the dtype of scores. Leave mask alone: it is for batches of prompts.\n\n"
        "Not to be used: scaled_dot_product_attention, and the project's own causal_mask.",
        "Каузальный softmax: оценки становятся весами, и ни одна позиция не смотрит на более\n"
        "поздние.\n\n"
        "    {formula}\n\n"
        "scores имеет форму (B, H, T, S): T запросов, S ключей, S >= T. Запросы - последние T из\n"
        "S позиций: первый видит S - T + 1 ключей, последний все S. Строка весов даёт в сумме\n"
        "1 по ключам (последнее измерение). Оценки бывают большими: +-10000. Тип весов тот же,\n"
        "что у оценок. Аргумент mask не трогайте: он нужен для батчей промптов.\n\n"
        "Нельзя использовать: scaled_dot_product_attention и causal_mask самого проекта.",
    ),
    stub='''import math
from dataclasses import replace

import torch
from torch import Tensor, nn


class CausalSoftmax(nn.Module):
    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, H, T, S) -> (B, H, T, S)."""
        raise NotImplementedError
''',
    solution=CausalSoftmax,
    oracle=Oracle,
    cases=cases,
    probes=probes,
    mistakes=MISTAKES,
    hints=(
        Text(
            "Take T = 2 and S = 3. Which keys may query 0 see, and which query 1? Print your mask "
            "for these sizes.",
            "Возьмите T = 2 и S = 3. Какие ключи видит запрос 0, какие - запрос 1? Напечатайте "
            "свою маску для этих размеров.",
        ),
    ),
    forbidden=frozenset(["scaled_dot_product_attention", "causal_mask"]),
    look=weights_of,
)
