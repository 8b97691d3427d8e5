"""The views of a built-in world: they agree with the world, and say nothing about other texts."""

from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from oracles.world_stories import sample, vocabulary
from rich.console import Console

from cfg_gpt2 import DataConfig, GPT2Config, RunConfig
from gpt2 import GPT2Model
from visualization import circuit_view, ideal_view, probes_view
from visualization.capture import capture
from visualization.circuit_view import CIRCUIT
from visualization.heads import HEADS, heads_of
from visualization.ideal import story_tokens
from visualization.ideal_view import IDEAL, ideal_of
from visualization.inspection import Inspection
from visualization.probes_view import PROBES, STEERING
from visualization.surprise import surprise_of


@pytest.fixture(scope="module")
def inspection() -> Inspection:
    torch.manual_seed(1)
    tokenizer, story = vocabulary("tiny-world", "1200"), sample("tiny-world", 2)[1]
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size,
        context_length=200,
        n_layer=1,
        n_head=2,
        n_embd=16,
        dropout=0.0,
    )
    model = GPT2Model(config).eval()
    return Inspection(
        run=Path("runs/small"),
        config=RunConfig(model=config, data=DataConfig(path=("tiny-world",))),
        model=model,
        tokenizer=tokenizer,
        trace=capture(model, torch.tensor([story_tokens(story.text, tokenizer)])),
        language="en",
        story_number=1,
        story=story,
        layers=(0,),
        heads=(0, 1),
    )


@pytest.fixture(autouse=True)
def few_stories(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ideal_view, "N_STORIES", 5)
    monkeypatch.setattr(circuit_view, "N_STORIES", 3)
    monkeypatch.setattr(circuit_view, "STORIES_FOR_PAIRS", 12)
    monkeypatch.setattr(probes_view, "N_TRAIN", 12)
    monkeypatch.setattr(probes_view, "N_TEST", 6)


def printed(inspection: Inspection, view: object, shown: object) -> str:
    console = Console(file=StringIO(), width=200)
    view.show(console, inspection, shown)  # type: ignore[attr-defined]
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_ideal_view_has_the_bits_of_the_story_and_what_the_model_pays_above(
    inspection: Inspection,
) -> None:
    view = ideal_of(inspection)
    assert view is not None
    assert inspection.story is not None
    n = len(inspection.tokens)
    assert [len(row) for row in (view.bits, view.top, view.kl, view.regret)] == [n] * 4
    assert view.bits[0] is view.regret[0] is None
    assert sum(bits or 0 for bits in view.bits) == pytest.approx(inspection.story.bits, abs=1e-2)
    paid = surprise_of(inspection).total_bits - inspection.story.bits
    assert sum(bits or 0 for bits in view.regret) == pytest.approx(paid, abs=1e-2)
    assert all(bits is not None and bits >= -1e-6 for bits in view.kl)
    assert view.top[n - 2] == [("<|endoftext|>", 1.0)]
    assert [event.kind for event in view.events] == [e.kind for e in inspection.story.events]
    evening = next(event for event in view.events if event.kind == "evening")
    person = inspection.story.state.people[0].capitalize()
    assert evening.facts["en"].startswith(f"{person} is ")
    assert evening.facts["ru"] and " is " not in evening.facts["ru"]
    assert sum(row.share_of_regret for row in view.by_kind) == pytest.approx(1, abs=1e-3)
    assert "regret" in printed(inspection, IDEAL, view)
    assert IDEAL.summary is not None
    assert "ideal reader" in IDEAL.summary(inspection, view)


def test_a_prompt_that_leaves_the_world_is_ideal_until_there(inspection: Inspection) -> None:
    tokenizer = inspection.tokenizer
    tokens = tokenizer.encode("One windy autumn morning Anna ate a Xylophone.")
    trace = capture(inspection.model, torch.tensor([tokens]))
    view = ideal_of(replace(inspection, trace=trace, story=None, story_number=None))
    assert view is not None
    here = view.impossible_from
    assert here is not None
    assert set(view.bits[here:]) == set(view.kl[here:]) == {None}
    assert view.bits[here - 1] is not None
    assert [event.kind for event in view.events] == ["weather", "season", "hour", "person"]


def test_other_runs_and_other_texts_have_no_such_views(inspection: Inspection) -> None:
    config = replace(inspection.config, data=DataConfig(path=("book.txt",)))
    other = replace(inspection, config=config)
    for view in (IDEAL, CIRCUIT, PROBES, STEERING):
        assert view.build(other) is None
    heads = heads_of(other)
    assert heads is not None
    assert heads.chance.fact is None
    assert " fact" not in printed(other, HEADS, heads)
    trace = capture(inspection.model, torch.tensor([inspection.tokenizer.encode("Xylophone")]))
    assert ideal_of(replace(inspection, trace=trace, story=None)) is None


def test_circuits_probes_and_steering_are_shown_in_both_languages(inspection: Inspection) -> None:
    for view, words in ((CIRCUIT, "copying"), (PROBES, "named_last"), (STEERING, "alpha")):
        shown = view.build(inspection)
        assert shown is not None
        texts = [printed(inspection, view, shown)]
        texts.append(printed(replace(inspection, language="ru"), view, shown))
        for text in texts:
            assert words in text
            assert "{" not in text
        assert shown.sentences == [] or texts[0] != texts[1]
        for grid in shown.maps:
            assert len(grid.values) == len(grid.rows)
            assert all(len(row) == len(grid.columns) for row in grid.values)
        for table in shown.tables:
            assert all(len(row) == len(table.columns) for row in table.rows)
        assert (shown.sentences != []) == (view is not STEERING)
        assert all(both["en"] != both["ru"] for both in shown.sentences)
    heads = heads_of(inspection)
    assert heads is not None
    assert heads.chance.fact == pytest.approx(0.02, abs=0.02)
    assert all(row.fact is not None for row in heads.rows)
