"""Exercise: multi-head attention, against torch's fused kernel in fp64.

Previous: causal_softmax.py.  Next: block.py.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import multiheadattention
from cfg_gpt2 import GPT2Config
from exercises.exercise import Case, Exercise, Mistake, Panel, Part, Probe, Text
from exercises.parts import causal_softmax
from exercises.parts.feedforward import config_of
from exercises.run_part import build, call


class MultiHeadAttention(nn.Module):
    """The solution, one step a line, which the mistakes change."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.qkv_proj = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.out_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache: None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        B, T, C = x.shape
        H, D = self.n_head, C // self.n_head
        q, k, v = self.qkv_proj(x).split(C, dim=-1)  # (B, T, C)
        q = q.view(B, T, H, D).transpose(1, 2)  # (B, H, T, D)
        k = k.view(B, T, H, D).transpose(1, 2)  # (B, H, T, D)
        v = v.view(B, T, H, D).transpose(1, 2)  # (B, H, T, D)
        scores = q @ k.transpose(-2, -1) / math.sqrt(D)  # (B, H, T, T)
        later = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)  # (T, T)
        scores = scores.masked_fill(later, -math.inf)  # (B, H, T, T)
        weights = scores.softmax(dim=-1)  # (B, H, T, T)
        heads = self.dropout(weights) @ v  # (B, H, T, D)
        y = heads.transpose(1, 2).reshape(B, T, C)  # (B, T, C)
        return self.dropout(self.out_proj(y))


class Oracle(nn.Module):
    """torch's fused kernel between two linear maps, in the dtype of its input."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.n_head, self.dropout = config.n_head, config.dropout
        self.qkv_proj = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.out_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        q, k, v = (
            part.unflatten(-1, (self.n_head, -1)).transpose(1, 2)
            for part in self.qkv_proj(x).chunk(3, dim=-1)
        )
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = self.out_proj(heads.transpose(1, 2).flatten(2))
        return F.dropout(y, self.dropout, self.training)


def weights_of(n_embd: int, generator: torch.Generator, *, bias: bool = True) -> dict[str, Tensor]:
    """Returns weights of the layer by name, of which none is 0."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    drawn = {
        "qkv_proj.weight": 1.7 / math.sqrt(n_embd) * draw(3 * n_embd, n_embd),
        "qkv_proj.bias": 0.3 * draw(3 * n_embd),
        "out_proj.weight": 1.4 / math.sqrt(n_embd) * draw(n_embd, n_embd),
        "out_proj.bias": 0.3 * draw(n_embd),
    }
    return {name: w for name, w in drawn.items() if bias or "bias" not in name}


def cases(seed: int) -> list[Case]:
    """Returns the cases: no two axes equal, several heads, no bias 0."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    def weights(n_embd: int, *, bias: bool = True) -> dict[str, Tensor]:
        return weights_of(n_embd, generator, bias=bias)

    axes = ("row", "position", "channel")
    small, wide = config_of(12, 3), config_of(24, 3)
    return [
        Case(
            name=Text("3 heads of 4 channels", "3 головы по 4 канала"),
            arguments=(small,),
            inputs=(draw(2, 7, 12),),
            weights=weights(12),
            axes=axes,
        ),
        Case(
            name=Text("3 heads of 8 channels", "3 головы по 8 каналов"),
            arguments=(wide,),
            inputs=(draw(2, 5, 24),),
            weights=weights(24),
            axes=axes,
        ),
        Case(
            name=Text("config.bias=False, 4 heads of 2", "config.bias=False, 4 головы по 2"),
            arguments=(config_of(8, 4, bias=False),),
            inputs=(draw(1, 6, 8),),
            weights=weights(8, bias=False),
            axes=axes,
        ),
        Case(
            name=Text("one position", "одна позиция"),
            arguments=(small,),
            inputs=(draw(2, 1, 12),),
            weights=weights(12),
            axes=axes,
        ),
        Case(
            name=Text("no position sees a later one", "ни одна позиция не видит более поздних"),
            arguments=(small,),
            inputs=(draw(1, 6, 12),),
            weights=weights(12),
            axes=("position", "position"),
            kind="influence",
        ),
        Case(
            name=Text("config.dropout=0.5 in eval()", "config.dropout=0.5 в режиме eval()"),
            arguments=(config_of(12, 3, dropout=0.5),),
            inputs=(draw(2, 5, 12),),
            weights=weights(12),
            axes=axes,
        ),
        Case(
            name=Text("config.dropout=0.5 in train()", "config.dropout=0.5 в режиме train()"),
            arguments=(config_of(12, 3, dropout=0.5),),
            inputs=(draw(2, 5, 12),),
            weights=weights(12),
            axes=axes,
            kind="dropout",
        ),
        Case(
            name=Text("autocast to bf16", "autocast в bf16"),
            arguments=(wide,),
            inputs=(draw(2, 5, 24),),
            weights=weights(24),
            axes=axes,
            gradients=False,
            autocast=True,
            bound=8e-2,  # four matmuls of bf16, 4e-3 each
        ),
    ]


def probes(seed: int) -> list[Probe]:
    """Returns the probes: one thing after the other that can be wrong is taken away."""
    [first, *_] = cases(seed)
    first = replace(first, gradients=False)
    [x], weights = first.inputs, dict(first.weights)
    even = {name: w.clone() for name, w in weights.items() if "qkv" in name}
    for w in even.values():
        w[:24] = 0  # the queries and the keys
    through = {"out_proj.weight": torch.eye(12), "out_proj.bias": torch.zeros(12)}
    unbiased = {name: w * ("bias" not in name) for name, w in weights.items()}
    once = x[:, :1].expand(x.shape).contiguous()
    named = (
        ("there is one head", "голова одна", replace(first, arguments=(config_of(12, 1),))),
        ("there is one position", "позиция одна", replace(first, inputs=(x[:, :1],))),
        (
            "all scores are equal (q and k are 0)",
            "все оценки равны (q и k равны 0)",
            replace(first, weights=weights | even),
        ),
        (
            "all positions hold the same x",
            "во всех позициях один и тот же x",
            replace(first, inputs=(once,)),
        ),
        (
            "out_proj changes nothing",
            "out_proj ничего не меняет",
            replace(first, weights=weights | through),
        ),
        ("all biases are 0", "все сдвиги равны 0", replace(first, weights=unbiased)),
    )
    plain = [Probe(when=Text(en, ru), case=case) for en, ru, case in named]
    bare = replace(first, inputs=(x[:, :1],), weights=unbiased | through)
    when = Text(
        "there is one position, without biases, and out_proj changes nothing: the output is v",
        "позиция одна, сдвигов нет, и out_proj ничего не меняет: выход равен v",
    )
    return [*plain, Probe(when=when, case=bare, simplest=True), scores_probe(seed)]


def scores_probe(seed: int) -> Probe:
    """Returns the probe that reads the scores off the weights, and these off the output."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(6, 6, generator=generator)
    q, k = (torch.randn(12, 6, generator=generator) / 2 for _ in range(2))
    when = Text(
        "only the scores behind the weights are compared",
        "сравнивать только оценки, стоящие за весами",
    )

    def scores_of(y: Tensor) -> Tensor:
        return causal_softmax.scores_behind(y[0].unflatten(-1, (2, 6)).transpose(0, 1))

    return Probe(when=when, case=reading_case(x, q, k), derive=scores_of)


def reading_case(x: Tensor, q: Tensor, k: Tensor) -> Case:
    """Returns a case whose output is the weights of two heads: y[0, t, h T + s].

    x is (T, M) with M <= T, q and k are (2T, M) or (2T, 2T). After x stand the positions as
    vectors with a single 1; they are the values, and out_proj changes nothing.
    """
    n = len(x)
    given = torch.cat([x, torch.zeros(n, n - x.size(1)), torch.eye(n)], dim=1)  # (T, 2T)
    q, k = (F.pad(w, (0, 2 * n - w.size(1))) for w in (q, k))
    v = torch.cat([torch.zeros(2 * n, n), torch.eye(n).repeat(2, 1)], dim=1)
    return Case(
        name=Text("", ""),
        arguments=(config_of(2 * n, 2, bias=False),),
        inputs=(given[None],),
        weights={"qkv_proj.weight": torch.cat([q, k, v]), "out_proj.weight": torch.eye(2 * n)},
        axes=("row", "position", "channel"),
        gradients=False,
    )


WORDS = ["the", "cat", "saw", "the", "dog", "the", "cat", "ran"]


def read_weights(part: Part) -> list[Panel]:
    """Returns the weights of two heads, read off the output of weights made for it.

    Head 0 compares words, head 1 asks for the position before. The value of position s is a
    vector with a 1 at s, and out_proj changes nothing, so the output of a head is its weights.
    """
    n, known = len(WORDS), sorted(set(WORDS))
    x = torch.zeros(n, n)
    q, k = torch.zeros(2 * n, 2 * n), torch.zeros(2 * n, 2 * n)  # (out, in)
    for t, word in enumerate(WORDS):
        x[t, known.index(word)] = 1
        q[known.index(word), known.index(word)] = k[known.index(word), known.index(word)] = 4.0
        k[n + t, n + t] = 5.0
        if t:
            q[n + t - 1, n + t] = 5.0
    case = reading_case(x, q, k)
    y = call(build(part, case).eval(), case, case.inputs).detach()[0]  # (T, C)
    titles = (
        Text("head 0, asks for its own word", "голова 0, ищет своё же слово"),
        Text("head 1, asks for the position before", "голова 1, ищет предыдущую позицию"),
    )
    return [
        Panel(title=title, values=values, labels=tuple(WORDS))
        for title, values in zip(titles, y.split(n, dim=-1), strict=True)
    ]


def as_in_causal_softmax(name: str, *edits: tuple[str, str]) -> Mistake:
    """Returns a mistake of the exercise before this one, in the code of this one."""
    known = causal_softmax.EXERCISE.mistake(name)
    return Mistake(name=name, edits=edits, says=known.says, asks=known.asks)


SPLIT, JOIN = ".view(B, T, H, D).transpose(1, 2)", "heads.transpose(1, 2).reshape(B, T, C)"
HOW_LONG = Text(
    "How long is the vector that one head multiplies?",
    "Какой длины вектор, который умножает одна голова?",
)
MISTAKES = (
    Mistake(
        name="unscaled",
        edits=((" / math.sqrt(D)", ""),),
        says=Text(
            "1 / sqrt(D) is missing, so the weights are too sharp.",
            "Пропущено деление на sqrt(D), и веса слишком резкие.",
        ),
        asks=Text(
            "What is the variance of a sum of D products?",
            "Какова дисперсия суммы D произведений?",
        ),
    ),
    Mistake(
        name="by_sqrt_c",
        edits=(("math.sqrt(D)", "math.sqrt(C)"),),
        says=Text(
            "Scores are divided by sqrt(C): all channels, not those of one head.",
            "Оценки делятся на sqrt(C): на все каналы, а не на каналы одной головы.",
        ),
        asks=HOW_LONG,
    ),
    Mistake(
        name="by_d",
        edits=(("math.sqrt(D)", "D"),),
        says=Text("Scores are divided by D, without the root.", "Оценки делятся на D, без корня."),
        asks=Text(
            "What is the variance of a sum of D products, and what its deviation?",
            "Какова дисперсия суммы D произведений, и каково отклонение?",
        ),
    ),
    Mistake(
        name="times_sqrt_d",
        edits=(("/ math.sqrt(D)", "* math.sqrt(D)"),),
        says=Text("Scores are multiplied by sqrt(D).", "Оценки умножаются на sqrt(D)."),
        asks=Text(
            "Should scores be larger or smaller after scaling?",
            "Должны ли оценки стать больше или меньше?",
        ),
    ),
    Mistake(
        name="by_sqrt_h",
        edits=(("math.sqrt(D)", "math.sqrt(H)"),),
        says=Text(
            "Scores are divided by sqrt(H), the number of heads.",
            "Оценки делятся на sqrt(H), на число голов.",
        ),
        asks=HOW_LONG,
    ),
    Mistake(
        name="by_sqrt_t",
        edits=(("math.sqrt(D)", "math.sqrt(T)"),),
        says=Text(
            "Scores are divided by sqrt(T), the number of positions.",
            "Оценки делятся на sqrt(T), на число позиций.",
        ),
        asks=HOW_LONG,
    ),
    as_in_causal_softmax("no_mask", ("scores.masked_fill(later, -math.inf)", "scores")),
    as_in_causal_softmax("hides_itself", ("triu(1)", "triu(0)")),
    as_in_causal_softmax("one_later", ("triu(1)", "triu(2)")),
    as_in_causal_softmax("hides_the_past", ("triu(1)", "tril(-1)")),
    as_in_causal_softmax("over_queries", ("softmax(dim=-1)", "softmax(dim=-2)")),
    as_in_causal_softmax(
        "over_heads", ("softmax(dim=-1)", "softmax(dim=1)"), ("-math.inf", "-1e9")
    ),
    as_in_causal_softmax("zero_for_minus_inf", ("-math.inf", "0.0")),
    as_in_causal_softmax(
        "after_not_renormalized",
        ("scores.masked_fill(later, -math.inf)", "scores"),
        ("scores.softmax(dim=-1)", "scores.softmax(dim=-1).masked_fill(later, 0.0)"),
    ),
    Mistake(
        name="split_without_transpose",
        edits=((SPLIT, ".reshape(B, H, T, D)"),),
        says=Text(
            "The heads are split by a reshape to (B, H, T, D): a head gets channels of other "
            "positions. Training would still go down, only worse.",
            "Головы разделены через reshape в (B, H, T, D): голове достаются каналы других "
            "позиций. Потери при обучении всё равно падают, но хуже.",
        ),
        asks=Text(
            "Which numbers lie side by side in memory: those of one position, or of one head?",
            "Какие числа лежат в памяти рядом: одной позиции или одной головы?",
        ),
    ),
    Mistake(
        name="joined_without_transpose",
        edits=((JOIN, "heads.reshape(B, T, C)"),),
        says=Text(
            "(B, H, T, D) becomes (B, T, C) while H still stands before T: a position's channels "
            "are filled with other positions'. Training would still go down, only worse.",
            "(B, H, T, D) превращается в (B, T, C), когда H стоит перед T: каналы одной позиции "
            "заполнены каналами других. Потери при обучении всё равно падают, но хуже.",
        ),
        asks=Text(
            "Which axis must stand beside D before the two can become one?",
            "Какая ось должна стоять рядом с D, прежде чем две оси станут одной?",
        ),
    ),
    Mistake(
        name="both_without_transpose",
        edits=((SPLIT, ".reshape(B, H, T, D)"), (JOIN, "heads.reshape(B, T, C)")),
        says=Text(
            "Heads are split and joined by reshape alone: a head works on other positions' "
            "channels. Shapes fit, and training would still go down, only worse.",
            "Головы разделяются и соединяются одним reshape: голова работает с каналами других "
            "позиций. Формы сходятся, потери при обучении падают, но хуже.",
        ),
        asks=Text(
            "Which numbers lie side by side in memory: those of one position, or of one head?",
            "Какие числа лежат в памяти рядом: одной позиции или одной головы?",
        ),
    ),
    Mistake(
        name="interleaved",
        edits=(
            (SPLIT, ".view(B, T, D, H).permute(0, 3, 1, 2)"),
            (JOIN, "heads.permute(0, 2, 3, 1).reshape(B, T, C)"),
        ),
        says=Text(
            "A head takes every H-th channel; GPT-2's heads take D channels in a row.",
            "Голова берёт каждый H-й канал, а у GPT-2 голова берёт D каналов подряд.",
        ),
        asks=Text(
            "Are channels 0..D-1 one head, or does a head own every H-th?",
            "Одной голове принадлежат каналы 0..D-1 или каждый H-й канал?",
        ),
    ),
    Mistake(
        name="qkv_per_head",
        edits=(
            (
                "self.qkv_proj(x).split(C, dim=-1)",
                "self.qkv_proj(x).view(B, T, H, 3 * D).chunk(3, -1)",
            ),
            (".view(B, T, H, D).transpose", ".transpose"),
        ),
        says=Text(
            "q, k and v are split inside each head (GPT-NeoX's order); GPT-2 keeps all queries "
            "first.",
            "q, k и v разделены внутри каждой головы (порядок GPT-NeoX), а у GPT-2 сначала все "
            "запросы.",
        ),
        asks=Text(
            "GPT-2 keeps all queries first, then all keys. Where do yours lie?",
            "У GPT-2 сначала идут все запросы, потом все ключи. А у вас?",
        ),
    ),
    Mistake(
        name="k_q_v",
        edits=(("q, k, v = self", "k, q, v = self"),),
        says=Text(
            "Queries and keys are exchanged (k q^T for q k^T is the same).",
            "Запросы и ключи поменялись местами (k q^T вместо q k^T - то же самое).",
        ),
        asks=Text(
            "Row t of the scores: whose question is it?", "Строка t матрицы оценок: чей это запрос?"
        ),
    ),
    Mistake(
        name="q_v_k",
        edits=(("q, k, v = self", "q, v, k = self"),),
        says=Text("Keys and values are exchanged.", "Ключи и значения поменялись местами."),
        asks=Text(
            "In which order does qkv_proj give the three?", "В каком порядке qkv_proj даёт эти три?"
        ),
    ),
    Mistake(
        name="v_q_k",
        edits=(("q, k, v = self", "v, q, k = self"),),
        says=Text(
            "The three are taken as v, q, k; they come as q, k, v.",
            "Три части взяты как v, q, k, а идут они как q, k, v.",
        ),
        asks=Text(
            "In which order does qkv_proj give the three?", "В каком порядке qkv_proj даёт эти три?"
        ),
    ),
    Mistake(
        name="no_out_proj",
        edits=(("self.out_proj(y)", "y"),),
        says=Text(
            "out_proj is never used: the heads are not mixed at the end.",
            "out_proj не используется: головы в конце не смешиваются.",
        ),
        asks=Text(
            "Which of your four parameters is never used?",
            "Какой из четырёх параметров не используется?",
        ),
    ),
    Mistake(
        name="scores_detached",
        edits=(("q @ k.transpose(-2, -1)", "(q @ k.transpose(-2, -1)).detach()"),),
        says=Text(
            "The values are right, but q and k get no gradient.",
            "Значения верны, но q и k не получают градиента.",
        ),
        asks=Text("Can q learn anything?", "Может ли q чему-нибудь научиться?"),
    ),
    Mistake(
        name="values_are_input",
        edits=(("v = v.view", "v = x.view"),),
        says=Text(
            "The weights weigh x itself, not the values.", "Веса взвешивают сам x, а не значения."
        ),
        asks=Text("What do the weights weigh?", "Что взвешивают веса?"),
    ),
    Mistake(
        name="residual_inside",
        edits=(("self.dropout(self.out_proj(y))", "x + self.dropout(self.out_proj(y))"),),
        says=Text(
            "x is added to the output; the block does that.",
            "К выходу прибавлен x, а это делает блок.",
        ),
        asks=Text("Who adds x: this layer or the block?", "Кто прибавляет x: этот слой или блок?"),
    ),
    Mistake(
        name="dropout_in_eval",
        edits=(("self.dropout(weights)", "F.dropout(weights, self.dropout.p)"),),
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
        edits=(
            ("self.dropout(weights)", "weights"),
            ("self.dropout(self.out_proj(y))", "self.out_proj(y)"),
        ),
        says=Text("config.dropout is never used.", "config.dropout не используется."),
        asks=Text("What differs between train() and eval()?", "Чем различаются train() и eval()?"),
    ),
)

EXERCISE = Exercise(
    name="attention",
    file="multiheadattention.py",
    part=multiheadattention.MultiHeadAttention,
    title=Text("multi-head causal self-attention", "многоголовое каузальное внимание"),
    formula="softmax(q k^T / sqrt(D) + causal mask) v, then out_proj",
    task=Text(
        "Causal self-attention: each position gathers from itself and the positions before it.\n\n"
        "    q, k, v = qkv_proj(x)                     C channels each, in this order\n"
        "    head    = softmax(q k^T / sqrt(D) + causal mask) v\n"
        "    y       = out_proj(all heads side by side)\n\n"
        "B batch, T positions, C = config.n_embd, H = config.n_head heads of D = C / H channels:\n"
        "head 0 has the channels 0 .. D-1 of q, k and v, head 1 the next D, and so on.\n"
        "config.dropout applies to the weights and to the output, in training only; config.bias\n"
        "says whether the linear layers have biases. Leave cache alone: it comes later.\n\n"
        "Not to be used: scaled_dot_product_attention, MultiheadAttention.",
        "Каузальное самовнимание: каждая позиция собирает данные у себя и у предыдущих.\n\n"
        "    q, k, v = qkv_proj(x)                     по C каналов, в этом порядке\n"
        "    голова  = softmax(q k^T / sqrt(D) + каузальная маска) v\n"
        "    y       = out_proj(все головы рядом)\n\n"
        "B - батч, T позиций, C = config.n_embd, H = config.n_head голов по D = C / H каналов:\n"
        "у головы 0 каналы 0 .. D-1 в q, k и v, у головы 1 следующие D и так далее.\n"
        "config.dropout действует на веса и на выход, только при обучении; config.bias говорит,\n"
        "есть ли сдвиги у линейных слоёв. Аргумент cache не трогайте: он понадобится позже.\n\n"
        "Нельзя использовать: scaled_dot_product_attention, MultiheadAttention.",
    ),
    stub='''import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from cfg_gpt2 import GPT2Config


class MultiHeadAttention(nn.Module):
    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.qkv_proj = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.out_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, cache: None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        raise NotImplementedError
''',
    solution=MultiHeadAttention,
    oracle=Oracle,
    cases=cases,
    probes=probes,
    mistakes=MISTAKES,
    hints=(
        Text(
            "Test from the inside out. With one position the weights are 1: is v carried through? "
            "Then print the weights of two positions: does row 0 read 1, 0?",
            "Проверяйте изнутри наружу. При одной позиции все веса равны 1: доходит ли v? Затем "
            "напечатайте веса для двух позиций: читается ли строка 0 как 1, 0?",
        ),
        Text(
            "Print the shape after each line and compare it with the letters: (B, T, C), "
            "(B, H, T, D), (B, H, T, T), (B, H, T, D), (B, T, C).",
            "Печатайте форму после каждой строки и сравнивайте с буквами: (B, T, C), (B, H, T, D), "
            "(B, H, T, T), (B, H, T, D), (B, T, C).",
        ),
    ),
    forbidden=frozenset(
        ["scaled_dot_product_attention", "MultiheadAttention", "multi_head_attention_forward"]
    ),
    look=read_weights,
)
