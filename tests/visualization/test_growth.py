"""visualization/growth.py: what snapshots know adds up, and a run may be training meanwhile."""

import math
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from matplotlib.figure import Figure
from oracles.world_run import STEPS, new_world_run
from rich.console import Console

from gpt2 import GPT2Model
from training.snapshots import name_of
from visualization import growth, snapshot
from visualization.command import open_inspection
from visualization.facts import FACTS
from visualization.growth import Growth, growth_of, learned_at
from visualization.growth_picture import draw_growth
from visualization.growth_view import show_growth, sum_up
from visualization.heads import score_heads
from visualization.ideal import reader_of
from visualization.inspection import Inspection
from visualization.regret import END
from visualization.settings import InspectCommand
from visualization.snapshot import lens_growth, probe_growth, questions


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_world_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def inspection(run: Path) -> Inspection:
    return open_inspection(InspectCommand(run=run, story=0))


@pytest.fixture(scope="module")
def view(inspection: Inspection) -> Growth:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "N_STORIES", 8)
        patch.setattr(snapshot, "N_LENS", 3)
        patch.setattr(snapshot, "N_FITTED", 30)
        patch.setattr(snapshot, "N_TESTED", 10)
        return growth_of(inspection)


def test_regrets_of_all_kinds_add_up_to_the_bits_above_the_floor(view: Growth) -> None:
    assert view.steps == list(STEPS) and view.left_out == []
    assert view.floor is not None and view.floor < min(view.bits_per_byte)
    ideal = sum(kind.n * kind.ideal_bits for kind in view.kinds)
    n_bytes = ideal / view.floor
    for number in range(len(view.steps)):
        regret = sum(kind.n * kind.regret[number] for kind in view.kinds)
        above = view.bits_per_byte[number] - view.floor
        assert regret / n_bytes == pytest.approx(above, rel=1e-4)  # all are rounded
    assert {"go", "evening", END} <= {kind.kind for kind in view.kinds}
    assert all(kind.learned_at is None for kind in view.kinds)  # weights are random


def test_the_last_snapshot_is_measured_as_the_run_itself(view: Growth, run: Path) -> None:
    model = GPT2Model.load(run)
    end = open_inspection(InspectCommand(run=run, story=0)).tokenizer.end_of_text
    table = score_heads(model, end, snapshot.N_SEQUENCES)
    assert table is not None
    assert set(view.heads) == set(snapshot.SCORES) == set(view.chance)
    for kind in snapshot.ON_RANDOM_TOKENS:
        by_step = view.heads[kind]
        flat = [score for layer in by_step[-1] for score in layer]
        assert flat == [getattr(row, kind) for row in table.rows]
        assert view.chance[kind] == getattr(table.chance, kind)
    assert view.attention.shape[0] == len(STEPS)
    facts = np.array(view.heads["fact"])  # of random weights: nobody looks anywhere
    assert facts.shape == (3, 2, 2) and np.allclose(facts, view.chance["fact"], rtol=0.3)


def test_the_lens_ends_at_the_model_itself(inspection: Inspection) -> None:
    texts = [inspection.tokens, inspection.tokens[:20]]
    depths, kl, settled = lens_growth(inspection.model, texts)
    assert len(depths) == len(kl) == 5 and kl[-1] == 0 and min(kl) >= 0
    one_by_one = [lens_growth(inspection.model, [text]) for text in texts]
    sizes = np.array(list(map(len, texts)))
    means = (np.array([row[1] for row in one_by_one]) * sizes[:, None]).sum(0) / sizes.sum()
    np.testing.assert_allclose(kl, means, atol=1e-3)  # padding is seen by nobody
    assert 0 <= settled <= 4


def test_learned_is_the_first_step_from_which_on_the_regret_stays_small() -> None:
    steps = [0, 1, 10, 100]
    assert learned_at(steps, [50.0, 0.5, 9.0, 0.4], 10) == 100
    assert learned_at(steps, [50.0, 0.5, 0.9, 0.4], 10) == 1
    assert learned_at(steps, [50.0, 0.5, 0.9, 1.4], 10) is None


def test_a_missing_or_half_written_snapshot_is_left_out(
    inspection: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("N_STORIES", "N_LENS", "N_FITTED", "N_TESTED"):
        monkeypatch.setattr(snapshot, name, 2)
    run = Path(copytree(inspection.run, tmp_path / "run"))
    whole = (run / name_of(2)).read_bytes()
    (run / "snapshots/.step-000004.safetensors.part").write_bytes(whole[:99])
    (run / name_of(2)).write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(growth, "steps_in", lambda run: [0, 1, 2, 8])  # 1 is removed meanwhile
    view = growth_of(replace(inspection, run=run))
    assert view.steps == [0, 8] and view.left_out == [1, 2]
    for step in (0, 8):
        (run / name_of(step)).unlink()
    with pytest.raises(ValueError, match=r"none of the 4 snapshots of .* is whole"):
        growth_of(replace(inspection, run=run))


def test_a_run_without_snapshots_has_no_growth(inspection: Inspection, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no snapshots, .* train with --train.snapshots 16"):
        growth_of(replace(inspection, run=tmp_path))


def test_checkpoint_takes_a_snapshot_by_its_step(run: Path) -> None:
    newest = open_inspection(InspectCommand(run=run, story=0))
    early = open_inspection(InspectCommand(run=run, story=0, checkpoint=2))
    same = open_inspection(InspectCommand(run=run, story=0, checkpoint=8))
    assert early.step == 2 and not early.trace.logits.equal(newest.trace.logits)
    assert same.trace.logits.equal(newest.trace.logits)
    with pytest.raises(ValueError, match=r"--checkpoint 3 was not kept in .*: 0, 2, 8"):
        open_inspection(InspectCommand(run=run, story=0, checkpoint=3))


def test_charts_and_tables_hold_what_was_measured(view: Growth) -> None:
    charts = {chart.name: chart for chart in view.curves}
    assert list(charts) == ["bits_per_byte", *snapshot.SCORES, "lens", "probes", "regret"]
    assert all(len(line.values) == len(STEPS) for c in view.curves for line in c.lines)
    assert charts["bits_per_byte"].floor == view.floor
    facts = {line.name: line.values for line in charts["fact"].lines}
    assert facts["1.0"] == [scores[1][0] for scores in view.heads["fact"]]
    regret = {line.name: line.values for line in charts["regret"].lines}
    go = next(kind for kind in view.kinds if kind.kind == "go")
    assert regret["go"][-1] == pytest.approx(go.regret[-1] * go.n / go.n_tokens, abs=1e-4)
    [table] = view.tables
    assert [row[0] for row in table.rows] == [kind.kind for kind in view.kinds]


def test_probes_read_the_question_of_each_snapshot(inspection: Inspection, view: Growth) -> None:
    assert set(view.probes) == set(FACTS)
    assert all(0 <= share <= 1 for shares in view.probes.values() for share in shares)
    reader = reader_of(inspection)
    assert reader is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "N_FITTED", 30)
        patch.setattr(snapshot, "N_TESTED", 10)
        train, test = questions(inspection, reader)
    assert 20 < len(train) <= 30 and 5 < len(test) <= 10  # some do not fit into the context
    expected = probe_growth(inspection.model, train, test)  # whose weights are the last snapshot's
    assert {fact: shares[-1] for fact, shares in view.probes.items()} == expected
    told = replace(test, values={**test.values, FACTS[0]: test.position % 20})
    assert probe_growth(inspection.model, told, told)[FACTS[0]] == 1  # what the stream does hold


def test_the_growth_of_a_russian_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("N_STORIES", "N_LENS", "N_FITTED", "N_TESTED"):
        monkeypatch.setattr(snapshot, name, 3)
    run = new_world_run(tmp_path, path="tiny-world-ru")
    view = growth_of(open_inspection(InspectCommand(run=run, story=0)))
    assert view.floor is not None and view.floor < min(view.bits_per_byte)
    assert set(view.heads) == set(snapshot.SCORES) and set(view.probes) == set(FACTS)
    assert {"go", "evening", END} <= {kind.kind for kind in view.kinds}


def test_another_text_is_measured_alone(tmp_path: Path) -> None:
    run = new_world_run(tmp_path, path="verse.txt")
    inspection = open_inspection(InspectCommand(run=run, prompt="Anna went to the pond."))
    view = growth_of(inspection)
    assert view.kinds == [] and view.floor is None and view.n_stories == 0
    n_tokens = len(inspection.tokens) - 1
    n_bytes = len(inspection.tokenizer.decode(inspection.tokens[1:]))
    guessed = n_tokens * math.log2(inspection.model.config.vocab_size) / n_bytes
    assert view.bits_per_byte[0] == pytest.approx(guessed, rel=0.05)  # by random weights


def test_growth_is_printed_and_drawn(inspection: Inspection, view: Growth, tmp_path: Path) -> None:
    console = Console(width=100, record=True, file=(tmp_path / "out").open("w"))
    show_growth(console, inspection, view)
    text = console.export_text()
    assert "place of person 1" in text
    assert "bits per byte" in text and "evening" in text
    assert "3 snapshots" in sum_up(inspection, view)
    figure = Figure(figsize=(10, 7), layout="constrained")
    draw_growth(figure.subfigures(1, 1), inspection, view)
    figure.savefig(tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 20_000
