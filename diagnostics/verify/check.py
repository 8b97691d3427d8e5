"""Check: one fast path, the reference that it has to equal, and the result of the comparison.

A check is a function of a ModelUnderTest. It returns a Comparison, raises Unavailable where this
machine or model has no such path, or NotExercised where the fast path did not run. Each check
changes one thing only: fused attention is compared with the formula, the cache by the formula with
the formula without a cache. So a broken path fails in the rows that bear its name, and the rows
together lead from the code that runs to the code that prints the formula.
Previous: comparison.py.  Next: call_counter.py.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from diagnostics.verify.comparison import Comparison
from diagnostics.verify.model_under_test import ModelUnderTest

Status = Literal["pass", "FAIL", "skipped"]


class Unavailable(Exception):
    """This machine or this model has no such path; the message is the reason."""


class NotExercised(Exception):
    """The fast path did not run, so a comparison would have proved nothing."""


@dataclass(frozen=True)
class Check:
    """A line of the list in command.py."""

    name: str  # what --only takes
    path: str
    against: str
    run: Callable[[ModelUnderTest], Comparison]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table."""

    name: str
    path: str
    against: str
    status: Status
    difference: float | None = None
    bound: float | None = None
    why: str
    seconds: float


def run_check(check: Check, under_test: ModelUnderTest) -> Row:
    """Runs a check and returns its row. A path that raises an error has failed as well."""
    status: Status = "FAIL"
    comparison = None
    started = time.monotonic()
    try:
        comparison = check.run(under_test)
        why = comparison.why
        # nan is within no bound, and an infinite bound proves nothing
        if comparison.difference <= comparison.bound < math.inf:
            status = "pass"
    except Unavailable as reason:
        status, why = "skipped", str(reason)
    except NotExercised as reason:
        why = f"the fast path was not exercised: {reason}"
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        why = f"it raised an error: {' '.join(str(error).split())[:200]}"
    return Row(
        name=check.name,
        path=check.path,
        against=check.against,
        status=status,
        difference=comparison.difference if comparison else None,
        bound=comparison.bound if comparison else None,
        why=why,
        seconds=round(time.monotonic() - started, 2),
    )
