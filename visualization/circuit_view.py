"""How a place is copied: fact heads, ablation, attribution, patching: columns that need not agree.

A head that looks at the statement (fact), that is needed (ablation of the kinds of event that name
a known place), that writes the name (direct attribution), and that carries the answer (patching at
the question) copies the place.
Previous: blocks.py.  Next: probes.py.
"""

from data.tiny_world.stories import corpus
from visualization.ablation import N_STORIES, HeadRise, head_rises
from visualization.blocks import Blocks, Map, Table, said, show_blocks
from visualization.fact_heads import FactScores, fact_scores
from visualization.ideal import reader_of
from visualization.inspection import Inspection, Spoken, View
from visualization.patching import N_PAIRS, Effects, find_pairs, lay_side_by_side, patch
from visualization.regret import lay_out

STORIES_FOR_PAIRS = 1000
PAIRS: Spoken = {
    "en": "{n} pairs of a story and its twin, in which two places are exchanged; {left} more were "
    "left out, for their names have unequal numbers of tokens. The model prefers the right place "
    "in {right:.0%} of them.",
    "ru": "{n} пар: рассказ и его двойник, в котором два места поменяны; ещё {left} пропущено, "
    "потому что в названиях разное число токенов. Модель предпочитает верное место в {right:.0%} "
    "пар.",
}
LEADERS: Spoken = {
    "en": "The head that brings back most of the answer at the question is {carries}; the one that "
    "looks most at the statement is {looks}; the one whose silence costs most in the evening is "
    "{needed}.",
    "ru": "Больше всего ответа возвращает в месте вопроса голова {carries}; больше всех смотрит на "
    "утверждение {looks}; дороже всего вечером обходится молчание головы {needed}.",
}


def circuit_of(inspection: Inspection) -> Blocks | None:
    """Returns what each head does for a known place; None where no built-in world was learned."""
    model, tokenizer, reader = inspection.model, inspection.tokenizer, reader_of(inspection)
    if reader is None:
        return None
    end = tokenizer.end_of_text
    stories = corpus(reader.language, 0, STORIES_FOR_PAIRS)[1]
    layout = lay_out(stories[:N_STORIES], tokenizer, reader)
    report = inspection.report
    rises = head_rises(model, layout, end, lambda done, total: report(done, 2 * total))
    facts = fact_scores(model, layout, reader, end)
    length = model.config.context_length
    pairs, left_out = find_pairs(stories, tokenizer, reader, length, N_PAIRS)
    if not pairs:
        return None
    runs = lay_side_by_side(pairs, end)
    effects = patch(model, runs, lambda done, total: report(total + done, 2 * total))
    return blocks_of(inspection, rises, facts, effects, left_out)


def blocks_of(
    inspection: Inspection,
    rises: list[HeadRise],
    facts: FactScores,
    effects: Effects,
    left_out: int,
) -> Blocks:
    """Returns the findings as sentences, maps and a table of the columns side by side."""
    names = [f"{row.layer}.{row.head}" for row in rises]
    looks = facts.scores["all"].flatten().tolist()
    carries, adds = effects.heads.flatten().tolist(), effects.adds.flatten().tolist()
    needed = [row.rise["evening"] for row in rises]

    def strongest(values: list[float]) -> str:
        return names[max(range(len(names)), key=values.__getitem__)]

    kinds = list(rises[0].rise)
    n_layer = inspection.model.config.n_layer
    depths = [f"x{layer}" for layer in range(n_layer + 1)]
    return Blocks(
        sentences=[
            said(PAIRS, n=effects.n, left=left_out, right=effects.clean_right),
            said(
                LEADERS,
                carries=strongest(carries),
                looks=strongest(looks),
                needed=strongest(needed),
            ),
        ],
        maps=[
            Map("patching", list(effects.residual), depths, list(effects.residual.values())),
            Map("ablation", names, kinds, [[row.rise[kind] for kind in kinds] for row in rises]),
        ],
        tables=[
            Table(
                "copying",
                ["head", "fact", "evening", "attribution", "patching"],
                [
                    [names[n], looks[n], needed[n], adds[n], carries[n]]
                    for n in sorted(range(len(names)), key=lambda n: -carries[n])
                ]
                + [["chance", facts.chance["all"], None, None, None]],
            )
        ],
    )


CIRCUIT = View(circuit_of, show_blocks, is_default=False)
