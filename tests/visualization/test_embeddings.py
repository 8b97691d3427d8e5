"""visualization/embeddings.py: axes and neighbours against NumPy, classes against the world."""

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from oracles.world_run import new_world_run
from rich.console import Console

from data.tiny_world.world import LOOKS, PEOPLE, PLACES, THINGS
from visualization.command import open_inspection
from visualization.embeddings import (
    cosines,
    embeddings_of,
    ids_of,
    neighbours,
    principal_axes,
    show_embeddings,
)
from visualization.embeddings_picture import draw_embeddings
from visualization.inspection import Inspection
from visualization.settings import InspectCommand
from visualization.word_classes import words_of


@pytest.fixture(scope="module")
def inspection(tmp_path_factory: pytest.TempPathFactory) -> Inspection:
    run = new_world_run(tmp_path_factory.mktemp("run"))
    return open_inspection(InspectCommand(run=run, story=0))


def test_axes_are_those_of_the_singular_value_decomposition() -> None:
    table = torch.randn(50, 8, generator=torch.Generator().manual_seed(1)) @ torch.randn(8, 8)
    points, explained = principal_axes(table)
    centred = table.double().numpy() - table.double().numpy().mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(explained.numpy(), s**2 / (s**2).sum(), atol=1e-9)
    np.testing.assert_allclose(np.abs(points.numpy()), np.abs(u[:, :2] * s[:2]), atol=1e-6)
    assert all(points[points[:, axis].abs().argmax(), axis] > 0 for axis in (0, 1))


def test_neighbours_are_the_tokens_of_the_highest_cosine() -> None:
    table = torch.randn(20, 6, generator=torch.Generator().manual_seed(2))
    rows = table.numpy() / np.linalg.norm(table.numpy(), axis=1, keepdims=True)
    similar = rows @ rows.T - 3 * np.eye(20)
    found = neighbours(table, [4, 7], 3)
    for id, row in zip((4, 7), found, strict=True):
        assert [other for other, _ in row] == np.argsort(-similar[id])[:3].tolist()
        assert [cosine for _, cosine in row] == pytest.approx(
            np.sort(similar[id])[::-1][:3].tolist(), abs=1e-4
        )


def test_positions_are_compared_by_their_cosine() -> None:
    rows = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]])
    assert cosines(rows[:1], rows) == [[1.0, 1.0, 0.0, -1.0]]


def test_every_word_of_a_world_has_its_class() -> None:
    english, russian = words_of("en"), words_of("ru")
    assert english["Anna"] == ("person", "anna") and english["pond"] == ("place", "pond")
    assert english["ball"] == ("thing", "ball") and english["red"] == ("look", "red")
    for form in ("саду", "сад"):
        assert russian[form] == ("place", "garden")
    for form in ("Аня", "Ани", "Ане", "Аню"):
        assert russian[form] == ("person", "anna")
    for words in (english, russian):
        named = {(what.kind, what.which) for what in words.values()}
        assert len(named) == len(PEOPLE) + len(PLACES) + len(THINGS) + len(LOOKS)


def test_random_embeddings_know_no_class_and_planted_ones_do(inspection: Inspection) -> None:
    view = embeddings_of(inspection)
    classes = dict(zip(view.ids, view.classes, strict=True))
    kinds = {row.kind: row for row in view.purity}
    assert set(kinds) == {"person", "place", "thing", "look"}
    assert all(row.share < 0.3 for row in kinds.values())
    assert len(view.ids) == len(set(view.ids)) == len(view.points) == len(view.nearest)
    table = inspection.model.token_embedding.weight.data
    before = table.clone()
    for axis, kind in enumerate(kinds):
        table[[id for id, other in classes.items() if other == kind], axis] += 1.0
    planted = embeddings_of(inspection)
    table.copy_(before)
    assert all(row.share > 0.9 for row in planted.purity if row.n > 5)
    assert all(row.chance < 0.1 for row in planted.purity)
    assert planted.explained[0] > view.explained[0]


def test_a_run_on_another_text_has_points_without_classes(tmp_path: Path) -> None:
    run = new_world_run(tmp_path, path="verse.txt")
    view = embeddings_of(open_inspection(InspectCommand(run=run, prompt="Anna went away.")))
    assert set(view.classes) == {""} and view.purity == []
    assert np.allclose(np.diag(view.position_cosine), 1)
    assert view.positions == list(range(0, 176, 3))


def test_embeddings_are_printed_and_drawn(inspection: Inspection, tmp_path: Path) -> None:
    view = embeddings_of(inspection)
    console = Console(width=120, record=True, file=StringIO())
    show_embeddings(console, inspection, view)
    text = console.export_text()
    assert "neighbours of the class" in text and "person" in text
    assert set(ids_of(view)) >= set(view.ids)
    figure = Figure(figsize=(10, 5), layout="constrained")
    draw_embeddings(figure.subfigures(1, 1), inspection, view)
    figure.savefig(tmp_path / "embeddings.png")
    assert (tmp_path / "embeddings.png").stat().st_size > 20_000
