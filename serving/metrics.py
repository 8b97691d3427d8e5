"""/metrics: what the server has done, in the text format that Prometheus reads.

    gpt2_requests_total{path, status}             gpt2_first_token_seconds{model}    histograms
    gpt2_prompt_tokens_total{model}               gpt2_answer_seconds{model}
    gpt2_generated_tokens_total{model}            gpt2_texts_running{model}, _waiting{model}

Previous: chat.py.  Next: app.py.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse

from serving.runs import ServedRun

BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)  # seconds
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
router = APIRouter()


class Histogram:
    """How many of some durations are at most so long."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Adds a duration."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def lines(self, name: str, model: str) -> Iterator[str]:
        """Yields the lines of the format: each bucket holds the smaller ones, too."""
        bounds = [*map(str, BOUNDS), "+Inf"]
        for bound, count in zip(bounds, accumulate(self.counts), strict=True):
            yield sample(f"{name}_bucket", {"model": model, "le": bound}, count)
        yield sample(f"{name}_sum", {"model": model}, self.total)
        yield sample(f"{name}_count", {"model": model}, sum(self.counts))


class Metrics:
    """What has been counted since the server began."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # by path and status
        self.prompt_tokens: Counter[str] = Counter()  # by model, as all that follow
        self.generated_tokens: Counter[str] = Counter()
        self.first_token: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.answer: defaultdict[str, Histogram] = defaultdict(Histogram)

    def count_request(self, path: str, status: int) -> None:
        """Counts a request that was answered, or refused."""
        self.requests[path, status] += 1

    def text(self, runs: Mapping[str, ServedRun]) -> str:
        """Returns everything in the format."""
        requests = [
            sample("gpt2_requests_total", {"path": path, "status": str(status)}, count)
            for (path, status), count in sorted(self.requests.items())
        ]
        engines = {name: run.engine for name, run in runs.items()}
        lines = [
            *family("gpt2_requests_total", "counter", "requests that were answered", requests),
            *by_model("gpt2_prompt_tokens_total", "counter", "tokens read", self.prompt_tokens),
            *by_model(
                "gpt2_generated_tokens_total", "counter", "tokens written", self.generated_tokens
            ),
            *by_model(
                "gpt2_texts_running", "gauge", "texts that are being written",
                {name: engine.n_running for name, engine in engines.items()},
            ),
            *by_model(
                "gpt2_texts_waiting", "gauge", "texts that wait for a slot",
                {name: engine.n_waiting for name, engine in engines.items()},
            ),
            *histograms("gpt2_first_token_seconds", "until the first token", self.first_token),
            *histograms("gpt2_answer_seconds", "until the last token", self.answer),
        ]  # fmt: skip
        return "".join(f"{line}\n" for line in lines)


def family(name: str, kind: str, meaning: str, samples: Iterable[str]) -> Iterator[str]:
    """Yields the lines of one metric, after those that say what it is."""
    yield f"# HELP {name} {meaning}"
    yield f"# TYPE {name} {kind}"
    yield from samples


def by_model(name: str, kind: str, meaning: str, values: Mapping[str, int]) -> Iterator[str]:
    """Yields the lines of a metric that has a value for each model."""
    samples = (sample(name, {"model": model}, value) for model, value in values.items())
    return family(name, kind, meaning, samples)


def histograms(name: str, meaning: str, values: Mapping[str, Histogram]) -> Iterator[str]:
    """Yields the lines of a metric that has a histogram for each model."""
    samples = (line for model, value in values.items() for line in value.lines(name, model))
    return family(name, "histogram", f"seconds {meaning}", samples)


def sample(name: str, labels: Mapping[str, str], value: float) -> str:
    """Returns one line of the format."""
    shown = ",".join(f'{label}="{escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{shown}}} {value}"


def escaped(text: str) -> str:
    """Returns the value of a label as the format has it."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@router.get("/metrics")
async def metrics(request: Request) -> PlainTextResponse:
    """Tells what the server has done."""
    text = request.app.state.metrics.text(request.app.state.runs)
    return PlainTextResponse(text, media_type=CONTENT_TYPE)
