"""Check: a fast path, the plain one that it has to equal, and what came out.

A check is a function of a Subject. It gives a Finding, or says by an exception that the path
cannot be run here, or that it was not taken. Each check changes one thing only: fused attention
is compared with the formula, the cache by the formula with the formula without a cache. Chained,
the rows lead from what runs to what is written out, and a broken path is in the rows of its name.
Previous: subject.py.  Next: witness.py.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from diagnostics.verify.subject import Subject

Status = Literal["pass", "FAIL", "not here"]


@dataclass(frozen=True)
class Finding:
    """How far the two lie apart, how far they may, and why."""

    difference: float
    bound: float
    why: str


class NotHere(Exception):
    """The path cannot be taken on this machine, or by this model; the message says why."""


class NotTaken(Exception):
    """The fast path did not run, so that nothing would have been compared with it."""


@dataclass(frozen=True)
class Check:
    """A line of the list in command.py."""

    name: str  # what --only takes
    path: str
    against: str
    run: Callable[[Subject], Finding]


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


def run_check(check: Check, subject: Subject) -> Row:
    """A path that breaks down has failed as much as one that gives something else."""
    status: Status = "FAIL"
    finding = None
    started = time.monotonic()
    try:
        finding = check.run(subject)
        why = finding.why
        # not a number is no difference that a bound could allow
        if finding.difference <= finding.bound < math.inf:
            status = "pass"
    except NotHere as absent:
        status, why = "not here", str(absent)
    except NotTaken as missed:
        why = f"the path was not taken: {missed}"
    except (RuntimeError, ValueError, TypeError, LookupError) as error:
        why = f"it broke down: {' '.join(str(error).split())[:200]}"
    return Row(
        name=check.name,
        path=check.path,
        against=check.against,
        status=status,
        difference=finding.difference if finding else None,
        bound=finding.bound if finding else None,
        why=why,
        seconds=round(time.monotonic() - started, 2),
    )
