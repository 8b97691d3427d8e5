"""training/memory.py: freed memory is not returned to Linux, unless the user has asked for it."""

import subprocess
import sys
from pathlib import Path

import pytest

import main
from training.memory import VARIABLES, can_keep_memory

pytestmark = pytest.mark.skipif(not can_keep_memory(), reason="the C library is not glibc")
FAULTS = """
import resource, torch
from training.memory import keep_memory
{before}
def work():
    for _ in range(20):
        torch.zeros(16_000_000)  # 64 MB, more than glibc ever keeps by itself
work()
first = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - first)
"""


def page_faults(before: str) -> int:
    """Returns the page faults of 20 allocations, each of a size that was freed before."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(before=before)],
        cwd=Path(main.__file__).parent,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return int(done.stdout)


def test_freed_memory_is_used_again() -> None:
    assert page_faults("keep_memory()") < page_faults("") / 10


@pytest.mark.parametrize("name", VARIABLES)
def test_a_malloc_variable_of_the_user_is_respected(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1000000")
    assert not can_keep_memory()
