"""Turns, medians and ratios, with contestants that only write down what they are asked."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from benchmarks.growth import Series, series_of, slope
from benchmarks.job import Job, Profile, Ready, Round
from benchmarks.limits import Limit, Limits
from benchmarks.pictures import draw_growth
from benchmarks.report import growth_cells
from benchmarks.result import Spread, ratios, rows_of
from benchmarks.turns import Answer, Measured, WorkerDied, in_turns
from cfg_gpt2 import GPT2Config

READY = Ready(build_seconds=1.0, warmup_seconds=2.0, steps=1, precision="fp32", note="a note")
MODEL = GPT2Config(vocab_size=64, context_length=10, n_layer=1, n_head=1, n_embd=8)


def job(name: str, group: str = "") -> Job:
    return Job(target="training", name=name, contender="ours", group=group, model=MODEL)


@dataclass
class Fake:
    """Answers with figures that were given to it; dies when they end."""

    job: Job
    diary: list[str]
    seconds: list[float] = field(default_factory=list)

    def ask(self, request: str, kind: type[Answer]) -> Answer:
        self.diary.append(f"{self.job.name} {request}")
        if request == "prepare":
            answer = READY
        elif request == "profile":
            answer = Profile(shares={"rest": 1.0}, table="")
        elif not self.seconds:
            raise WorkerDied("MemoryError: none left")
        else:
            answer = Round(units=100, seconds=self.seconds.pop(0), memory=7)
        assert isinstance(answer, kind)
        return answer


def test_rounds_go_in_turn_after_everyone_is_ready():
    diary: list[str] = []
    fakes = [Fake(job(name), diary, [1.0, 1.0]) for name in "ABC"]
    said: list[str] = []
    in_turns(fakes, 2, said.append, profile=True, pause=0)
    order = ["prepare", "round", "round", "profile"]
    assert diary == [f"{name} {request}" for request in order for name in "ABC"]
    assert len(said) == 12 and said[0] == "A: prepare"


def test_whoever_dies_is_left_out_and_the_others_go_on():
    diary: list[str] = []
    fakes = [Fake(job("A"), diary, [1.0]), Fake(job("B"), diary, [1.0, 2.0, 4.0])]
    a, b = in_turns(fakes, 3, lambda said: None, pause=0)
    assert a.died == "MemoryError: none left" and b.died is None
    assert a.rates() == [100.0] and b.rates() == [100.0, 50.0, 25.0]
    assert diary.count("A round") == 2


def measured(name: str, seconds: list[float], group: str = "") -> Measured:
    rounds = [Round(units=100, seconds=s, memory=n) for n, s in enumerate(seconds)]
    return Measured(job=job(name, group), ready=READY, rounds=rounds)


def test_ratios_are_taken_round_by_round_and_then_their_median():
    # the medians of both rates are equal, the pairs are not
    ours, peer = measured("ours", [1, 2, 4]), measured("peer", [4, 4, 2])
    first, second = rows_of([ours, peer], 1.0, {})
    assert first.ahead is None
    assert second.ahead == Spread(median=2.0, low=0.5, high=4.0)
    assert first.rate == Spread(median=50.0, low=25.0, high=100.0)
    assert second.memory == 2 and second.warmup_seconds == 2.0


def test_a_round_that_one_of_two_missed_makes_no_ratio():
    assert ratios([6.0, 4.0, 9.0], [3.0]) == [2.0]
    assert ratios([], [3.0]) == []
    assert Spread.of([]) is None


def test_rows_are_compared_within_their_group():
    seen = [("a", [1], "one"), ("b", [2], "one"), ("c", [8], "two"), ("d", [4], "two")]
    found = rows_of([measured(*one) for one in seen], 1.0, {})
    assert [row.ahead and row.ahead.median for row in found] == [None, 2.0, None, 0.5]


def test_the_share_of_the_limit_is_operations_a_second_over_those_of_the_best_product():
    (row,) = rows_of([measured("ours", [1.0])], 1.0, {"fp32": 1e9, "bf16": 4e9})
    assert row.operations and row.limit and row.share
    assert row.share == pytest.approx(row.operations / 1e9)
    assert row.limit == pytest.approx(100 * 1e9 / row.operations)


def test_a_contender_that_never_got_ready_is_a_row_without_figures():
    dead = Measured(job=job("peer"), died="killed")
    row = rows_of([measured("ours", [1.0]), dead], 1.0, {"fp32": 1e9})[1]
    assert (row.rate, row.ahead, row.share, row.died) == (None, None, None, "killed")


def test_the_best_limit_is_the_largest_median():
    found = Limits([
        Limit(what="fp32", how="a", rates=[1.0, 2.0, 99.0]),
        Limit(what="fp32", how="b", rates=[3.0, 3.0, 3.0]),
    ])  # fmt: skip
    assert found.best("fp32") == 3.0 and found.best("bf16") is None


def test_slopes_are_exponents():
    assert slope([1, 2, 4, 8], [5, 20, 80, 320]) == pytest.approx(2)
    assert slope([16, 64], [7, 7]) == pytest.approx(0)
    assert Series(name="x", x=[1], seconds=[1], operations=[1], memory=[1]).slopes() is None


def test_a_series_goes_from_small_to_large_and_leaves_out_what_died():
    points = []
    for x, seconds in ((4.0, 8.0), (2.0, 4.0)):
        seen = measured("point", [seconds] * 3, "batch")
        sized = replace(seen.job, x=x, batch_size=int(x))
        points.append(Measured(job=sized, ready=READY, rounds=seen.rounds))
    points.append(Measured(job=job("dead", "batch"), died="killed"))
    (series,) = series_of(points)
    assert series.x == [2.0, 4.0]
    assert series.operations[1] == pytest.approx(2 * series.operations[0])


def test_the_growth_of_a_cost_is_drawn(tmp_path: Path):
    one = Series(name="x", x=[1, 2], seconds=[1, 3], operations=[1, 2], memory=[10**9, 2 * 10**9])
    assert draw_growth(tmp_path, [one], "title").stat().st_size > 1000
    heading, cells = growth_cells([one])
    assert dict(zip(heading, cells, strict=True))["last two: time"] == "x 3.00"
