"""An adapter that makes a run a model of lm-evaluation-harness, which runs its tasks on it.

    log-likelihoods            of continuations, by continuations.py
    rolling log-likelihoods    of whole texts, in the harness's own windows
    generation                 greedy or sampled, until one of the task's stop strings

Previous: measure_harness.py.  Next: result.py.
"""

from collections.abc import Sequence
from typing import Protocol

from lm_eval.api.model import TemplateLM  # pyright: ignore[reportMissingImports]
from lm_eval.models.utils import normalize_gen_kwargs  # pyright: ignore[reportMissingImports]
from lm_eval.utils import (  # pyright: ignore[reportMissingImports]
    get_rolling_token_windows,
    make_disjoint_window,
)
from rich.console import Console

from cfg_gpt2 import require
from decoding.engine import complete
from decoding.settings import SamplingConfig
from evaluation.continuations import Likelihood, Request, score_continuations
from evaluation.score import rows_per_batch
from evaluation.session import Run
from training.progress import Bar
from training.runtime import Runtime

MAX_NEW_TOKENS = 256  # where a task does not set it
SUPPORTED_SETTINGS = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k"}
Setting = str | int | float | bool | list[str] | None


class Instance(Protocol):
    """A request of the harness, as far as the adapter reads it."""

    @property
    def args(self) -> tuple[str, dict[str, Setting]]:
        """The text, and the settings of generation."""
        ...


class Adapter(TemplateLM):
    """The harness's model interface over a run."""

    def __init__(
        self, run: Run, runtime: Runtime, console: Console, batch_size: int | None = None
    ) -> None:
        super().__init__()
        self.run, self.runtime, self.console = run, runtime, console
        self.rows = batch_size
        self.max_length = run.model.config.context_length

    @property
    def eot_token_id(self) -> int:
        """The id of the token that stands for an empty context and ends a text."""
        return self.run.tokenizer.end_of_text

    @property
    def tokenizer_name(self) -> str:
        """The name under which the harness caches tokens: the run directory."""
        return self.run.folder.as_posix()

    def tok_encode(self, string: str, add_special_tokens: bool | None = None) -> list[int]:
        """Encodes a text; there are no special tokens to add."""
        return self.run.tokenizer.encode(string)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
    ) -> list[Likelihood]:
        """Scores requests of ((context, continuation), context tokens, continuation tokens).

        Raises ValueError for a continuation that does not fit into the model's context.
        """
        for (context, _), _, ids in requests:
            require(
                1 <= len(ids) <= self.max_length,
                f"a continuation of {context[-30:]!r} has {len(ids)} tokens and the model's "
                f"context {self.max_length}; choose another task, or a model with more context",
            )
        return self.score([Request(context, ids) for _, context, ids in requests])

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Returns the log-probability of each text as a whole, in nats."""
        windows: list[Request] = []
        owners: list[int] = []
        for owner, request in enumerate(requests):
            ids = self.tok_encode(request.args[0])
            for pair in get_rolling_token_windows(ids, self.eot_token_id, self.max_length, 1):
                windows.append(Request(*make_disjoint_window(pair)))
                owners.append(owner)
        totals = [0.0] * len(requests)
        for owner, likelihood in zip(owners, self.score(windows), strict=True):
            totals[owner] += likelihood.log_probability
        return totals

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Generates a continuation for each request, without the stop string."""
        texts = [""] * len(requests)
        groups: dict[str, list[int]] = {}  # the requests with the same settings
        for number, request in enumerate(requests):
            groups.setdefault(repr(request.args[1]), []).append(number)
        with Bar(self.console, "generating", len(requests)) as bar:
            done = 0
            for numbers in groups.values():
                config = self.sampling(requests[numbers[0]].args[1])
                size = self.rows or rows_per_batch(self.max_length, self.runtime)
                for first in range(0, len(numbers), size):
                    batch = numbers[first : first + size]
                    prompts = [self.prompt(requests[i].args[0], config) for i in batch]
                    with self.runtime.autocast():
                        rows = complete(self.run.model, prompts, config, self.run.tokenizer)
                    for number, row in zip(batch, rows, strict=True):
                        texts[number] = row.text
                    done += len(batch)
                    bar.move(done)
        return texts

    def sampling(self, requested: dict[str, Setting]) -> SamplingConfig:
        """Translates the harness's settings. Raises ValueError for one that has no counterpart."""
        settings = normalize_gen_kwargs(requested, MAX_NEW_TOKENS)
        unknown = ", ".join(sorted(set(settings) - SUPPORTED_SETTINGS))
        require(not unknown, f"the task asks for {unknown}, which this model's adapter has not")
        do_sample = bool(settings.get("do_sample"))
        return SamplingConfig(
            max_new_tokens=settings["max_gen_toks"],
            temperature=settings["temperature"] if do_sample else 0.0,
            top_p=settings.get("top_p") if do_sample else None,
            top_k=settings.get("top_k") if do_sample else None,
            stop=tuple(text for text in settings["until"] if text),
            stop_tokens=(self.eot_token_id,),
        )

    def prompt(self, text: str, config: SamplingConfig) -> list[int]:
        """Encodes a prompt, cut at its beginning so that the new tokens fit into the context.

        Where max_new_tokens fills the context alone, the prompt has a whole context.
        """
        room = self.max_length - config.max_new_tokens
        return self.tok_encode(text)[-(room if room > 0 else self.max_length) :] or [
            self.eot_token_id
        ]

    def score(self, requests: list[Request]) -> list[Likelihood]:
        """Scores requests with a progress bar."""
        if not requests:
            return []
        with Bar(self.console, "scoring", len(requests)) as bar:
            return score_continuations(
                self.run.model, requests, self.runtime, self.eot_token_id, bar.move, self.rows
            )
