"""A server of two small runs of random weights, one of them with the chat template."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from oracles.served_run import write_run
from starlette.testclient import TestClient

from serving.app import make_app
from serving.runs import ServedRun, open_runs
from serving.security import Access
from serving.settings import ServeCommand


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ServedRun]]:
    folder = tmp_path_factory.mktemp("served")
    folders = (
        write_run(folder / "small", chat=False),
        write_run(folder / "assistant", chat=True, seed=2),
    )
    opened = open_runs(ServeCommand(run=folders))
    for run in opened.values():
        run.engine.start()
    yield opened
    for run in opened.values():
        run.engine.stop(5)


@pytest.fixture(scope="session")
def client(runs: dict[str, ServedRun]) -> Iterator[TestClient]:
    with TestClient(make_app(runs, Access()), base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, runs: dict[str, ServedRun]) -> Path:
    """The folder of the run without the chat template."""
    return runs["small"].folder
