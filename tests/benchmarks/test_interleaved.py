"""Interleaved rounds, medians and ratios, with workers that only record their requests."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from benchmarks.interleaved import Answer, Measurement, WorkerFailed, interleave
from benchmarks.job import Job, Profile, Ready, Round
from benchmarks.pictures import draw_scaling
from benchmarks.report import scaling_table
from benchmarks.result import MedianAndRange, make_rows, paired_ratios
from benchmarks.roofline import Peak, Roofline
from benchmarks.scaling import Series, series_of, slope
from cfg_gpt2 import GPT2Config

READY = Ready(build_seconds=1.0, warmup_seconds=2.0, steps=1, precision="fp32", note="a note")
MODEL = GPT2Config(vocab_size=64, context_length=10, n_layer=1, n_head=1, n_embd=8)


def job(name: str, group: str = "") -> Job:
    return Job(target="training", name=name, candidate="ours", group=group, model=MODEL)


@dataclass
class FakeWorker:
    """Answers with the seconds that it was given; fails when they are used up."""

    job: Job
    requests: list[str]
    seconds: list[float] = field(default_factory=list)

    def ask(self, request: str, kind: type[Answer]) -> Answer:
        self.requests.append(f"{self.job.name} {request}")
        if request == "prepare":
            answer = READY
        elif request == "profile":
            answer = Profile(shares={"rest": 1.0}, table="")
        elif not self.seconds:
            raise WorkerFailed("MemoryError: none left")
        else:
            answer = Round(units=100, seconds=self.seconds.pop(0), memory=7)
        assert isinstance(answer, kind)
        return answer


def test_rounds_are_interleaved_after_all_workers_are_ready() -> None:
    requests: list[str] = []
    workers = [FakeWorker(job(name), requests, [1.0, 1.0]) for name in "ABC"]
    reported: list[str] = []
    interleave(workers, 2, reported.append, profile=True, pause=0)
    order = ["prepare", "round", "round", "profile"]
    assert requests == [f"{name} {request}" for request in order for name in "ABC"]
    assert len(reported) == 12 and reported[0] == "A: prepare"


def test_a_worker_that_fails_is_left_out_and_the_others_continue() -> None:
    requests: list[str] = []
    workers = [
        FakeWorker(job("A"), requests, [1.0]),
        FakeWorker(job("B"), requests, [1.0, 2.0, 4.0]),
    ]
    a, b = interleave(workers, 3, lambda request: None, pause=0)
    assert a.error == "MemoryError: none left" and b.error is None
    assert a.rates() == [100.0] and b.rates() == [100.0, 50.0, 25.0]
    assert requests.count("A round") == 2


def measured(name: str, seconds: Sequence[float], group: str = "") -> Measurement:
    rounds = [Round(units=100, seconds=s, memory=n) for n, s in enumerate(seconds)]
    return Measurement(job=job(name, group), ready=READY, rounds=rounds)


def test_the_speedup_is_the_median_of_the_ratios_of_each_round() -> None:
    # the medians of both rates are equal, the pairs are not
    ours, peer = measured("ours", [1, 2, 4]), measured("peer", [4, 4, 2])
    first, second = make_rows([ours, peer], 1.0, {})
    assert first.speedup is None
    assert second.speedup == MedianAndRange(median=2.0, low=0.5, high=4.0)
    assert first.rate == MedianAndRange(median=50.0, low=25.0, high=100.0)
    assert second.memory == 2 and second.warmup_seconds == 2.0


def test_a_round_that_one_candidate_lacks_has_no_ratio() -> None:
    assert paired_ratios([6.0, 4.0, 9.0], [3.0]) == [2.0]
    assert paired_ratios([], [3.0]) == []
    assert MedianAndRange.of([]) is None


def test_speedups_compare_rows_within_their_group() -> None:
    groups = [("a", [1], "one"), ("b", [2], "one"), ("c", [8], "two"), ("d", [4], "two")]
    rows = make_rows([measured(*one) for one in groups], 1.0, {})
    assert [row.speedup and row.speedup.median for row in rows] == [None, 2.0, None, 0.5]


def test_the_share_of_the_limit_is_operations_per_second_over_those_of_the_fastest_matmul() -> None:
    (row,) = make_rows([measured("ours", [1.0])], 1.0, {"fp32": 1e9, "bf16": 4e9})
    assert row.operations and row.limit and row.share
    assert row.share == pytest.approx(row.operations / 1e9)
    assert row.limit == pytest.approx(100 * 1e9 / row.operations)


def test_a_candidate_that_failed_before_its_rounds_is_a_row_without_figures() -> None:
    failed = Measurement(job=job("peer"), error="killed")
    row = make_rows([measured("ours", [1.0]), failed], 1.0, {"fp32": 1e9})[1]
    assert (row.rate, row.speedup, row.share, row.error) == (None, None, None, "killed")


def test_the_best_peak_is_the_largest_median() -> None:
    roofline = Roofline(
        [
            Peak(what="fp32", how="a", rates=[1.0, 2.0, 99.0]),
            Peak(what="fp32", how="b", rates=[3.0, 3.0, 3.0]),
        ]
    )
    assert roofline.best("fp32") == 3.0 and roofline.best("bf16") is None


def test_the_slope_of_a_power_law_is_its_exponent() -> None:
    assert slope([1, 2, 4, 8], [5, 20, 80, 320]) == pytest.approx(2)
    assert slope([16, 64], [7, 7]) == pytest.approx(0)
    assert Series(name="x", x=[1], seconds=[1], operations=[1], memory=[1]).slopes() is None


def test_a_series_is_sorted_by_size_and_leaves_out_failed_points() -> None:
    points = []
    for x, seconds in ((4.0, 8.0), (2.0, 4.0)):
        point = measured("point", [seconds] * 3, "batch")
        sized = replace(point.job, x=x, batch_size=int(x))
        points.append(Measurement(job=sized, ready=READY, rounds=point.rounds))
    points.append(Measurement(job=job("failed", "batch"), error="killed"))
    (series,) = series_of(points)
    assert series.x == [2.0, 4.0]
    assert series.operations[1] == pytest.approx(2 * series.operations[0])


def test_a_scaling_series_is_drawn_and_tabulated(tmp_path: Path) -> None:
    one = Series(name="x", x=[1, 2], seconds=[1, 3], operations=[1, 2], memory=[10**9, 2 * 10**9])
    assert draw_scaling(tmp_path, [one], "title").stat().st_size > 1000
    heading, cells = scaling_table([one])
    assert dict(zip(heading, cells, strict=True))["last two: time"] == "x 3.00"
