"""The twin of the story that is shown: exact at its ends, and as patching says in between."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oracles.random_model import random_model
from oracles.world_run import new_world_run

from visualization.ablation import residuals
from visualization.command import open_inspection
from visualization.ideal import reader_of
from visualization.inspection import Inspection
from visualization.patching import lay_side_by_side, patched_logits
from visualization.settings import InspectCommand
from visualization.twin import Twin, chosen_pair, sum_up, twin_of


@pytest.fixture(scope="module", params=["tiny-world", "tiny-world-ru"])
def inspection(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Inspection:
    run = new_world_run(tmp_path_factory.mktemp("run"), request.param, vocab_size=1200)
    found = open_inspection(InspectCommand(run=run, story=0))
    return replace(found, model=random_model(found.model.config))  # whose heads look at something


@pytest.fixture(scope="module")
def view(inspection: Inspection) -> Twin:
    view = twin_of(inspection)
    assert view is not None
    return view


def test_the_effect_is_one_at_the_end_and_zero_where_nothing_differs(
    inspection: Inspection, view: Twin
) -> None:
    n = len(view.twin)
    assert view.kind == "evening" and inspection.tokens[n] == view.right != view.other
    assert len(view.effect) == len(view.depths) == 3 and {len(row) for row in view.effect} == {n}
    same = [here == there for here, there in zip(inspection.tokens, view.twin, strict=False)]
    assert not all(same)
    assert view.effect[-1] == pytest.approx([0.0] * (n - 1) + [1.0], abs=1e-4)
    for t, is_same in enumerate(same):
        assert not is_same or view.effect[0][t] == pytest.approx(0, abs=1e-4)
    before = same.index(False)
    assert not any(any(row[:before]) for row in view.effect)
    assert "with two places exchanged" in sum_up(inspection, view)


def test_each_effect_is_that_of_patching_one_position(inspection: Inspection, view: Twin) -> None:
    reader, model = reader_of(inspection), inspection.model
    assert reader is not None and inspection.story is not None
    pair = chosen_pair(inspection)
    assert pair is not None
    runs = lay_side_by_side([pair], inspection.tokenizer.end_of_text)
    with torch.no_grad():
        clean, corrupt = residuals(model, runs.clean), residuals(model, runs.corrupt)
        best, worst = (float(runs.difference(model(x))) for x in (runs.clean, runs.corrupt))
        assert [view.story_lead, view.twin_lead] == pytest.approx([best, worst], abs=1e-4)
        changed = [t for t in range(len(view.twin)) if view.twin[t] != inspection.tokens[t]]
        for layer, t in ((0, changed[0]), (1, changed[0]), (1, changed[0] + 1), (1, changed[-1])):
            here = torch.zeros_like(runs.clean, dtype=torch.bool)
            here[0, t] = True
            logits = patched_logits(model, layer, here, clean, corrupt)
            effect = (float(runs.difference(logits)) - worst) / (best - worst)
            assert view.effect[layer][t] == pytest.approx(effect, abs=1e-3)


def test_a_prompt_and_a_story_without_a_twin_have_none(
    inspection: Inspection, tmp_path: Path
) -> None:
    assert twin_of(replace(inspection, story=None)) is None
    other = new_world_run(tmp_path, path="verse.txt")
    assert twin_of(open_inspection(InspectCommand(run=other, prompt="Anna"))) is None
