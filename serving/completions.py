"""/v1/completions: texts that continue prompts.

Previous: models.py.  Next: app.py.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from decoding.settings import SamplingConfig
from serving.choices import (
    Choices,
    Delta,
    joined,
    require_few,
    sampling_of,
    unless_disconnected,
    usage_of,
    value_or,
    wants_usage,
)
from serving.errors import ApiError, as_bad_request
from serving.log_probabilities import Scored, for_completions, scored_prompt
from serving.models import find_run
from serving.runs import ServedRun
from serving.schemas import MAX_PROMPTS, CompletionRequest, Prompt, read_body, unknown_names
from serving.streaming import EventStream

DEFAULT_MAX_TOKENS = 16  # as OpenAI's
router = APIRouter()


@dataclass
class Completion:
    """One request, understood and given to the engine."""

    body: CompletionRequest
    run: ServedRun
    prompts: list[list[int]]
    config: SamplingConfig
    choices: Choices
    max_tokens: int  # 0: the prompts are only echoed
    id: str = field(default_factory=lambda: f"cmpl-{uuid.uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def n(self) -> int:
        """How many texts each prompt gets."""
        return value_or(self.body.n, 1)

    def response(self, parts: list[Delta], usage: dict[str, int] | None) -> dict[str, object]:
        """Returns a response, or an event of a stream, with some choices in it."""
        head = {"id": self.id, "object": "text_completion", "created": self.created}
        choices = [self.choice(part) for part in parts]
        return {**head, "model": self.run.name, "choices": choices, "usage": usage}

    def choice(self, part: Delta) -> dict[str, object]:
        """Returns one choice, or what a stream adds to it."""
        logprobs = None
        if self.body.logprobs is not None:
            as_ids = bool(self.body.return_tokens_as_token_ids)
            logprobs = for_completions(self.run.tokenizer, part.scored, as_ids=as_ids)
        return {
            "text": part.text,
            "index": part.index,
            "logprobs": logprobs,
            "finish_reason": part.finish_reason,
        }

    def usage(self) -> dict[str, int]:
        """Returns how many tokens were read and written."""
        return usage_of(sum(map(len, self.prompts)), self.choices.n_tokens)

    async def parts(self) -> AsyncIterator[Delta]:
        """Yields what is added to the choices: their prompts where asked for, then new text."""
        echoes = [""] * len(self.prompts)
        if self.body.echo:
            echoes = [self.run.tokenizer.decode(prompt) for prompt in self.prompts]
            scored = await self.scored_prompts()
            for i, text in enumerate(echoes):
                for index in range(i * self.n, (i + 1) * self.n):
                    yield Delta(index, text, scored[i], None if self.max_tokens else "length")
        async for part in self.choices.parts(lambda index: len(echoes[index // self.n])):
            yield part

    async def scored_prompts(self) -> list[list[Scored]]:
        """Returns the tokens of the prompts with their log-probabilities, where asked for."""
        if self.body.logprobs is None:
            return [[] for _ in self.prompts]
        engine, n_top = self.run.engine, self.body.logprobs
        futures = [asyncio.wrap_future(engine.score(prompt, n_top)) for prompt in self.prompts]
        results = await asyncio.gather(*futures)
        return [
            scored_prompt(self.run.tokenizer, prompt, *result)
            for prompt, result in zip(self.prompts, results, strict=True)
        ]


@router.post("/v1/completions")
async def completions(request: Request) -> Response:
    """Continues prompts."""
    body = read_body(CompletionRequest, await request.body())
    completion = prepare(request, body)
    headers = {"x-seed": str(completion.config.seed)}
    if names := unknown_names(body):
        headers["x-ignored-fields"] = ", ".join(names)
    if body.stream:
        return EventStream(events(completion), headers, completion.choices.cancel)
    answer = await unless_disconnected(request.receive, whole_answer(completion))
    return JSONResponse(answer, headers=headers)


def prepare(request: Request, body: CompletionRequest) -> Completion:
    """Reads a request and gives it to the engine. Raises ApiError where it cannot be served."""
    run = find_run(request, body.model)
    prompts = prompts_of(body, run)
    n = value_or(body.n, 1)
    require_few(len(prompts), n)
    if body.best_of is not None and body.best_of != n:
        raise ApiError(400, f"best_of {body.best_of} is not offered; leave it out", param="best_of")
    max_tokens = value_or(body.max_tokens, default_max_tokens(prompts, run))
    if max_tokens < 1 and not (max_tokens == 0 and body.echo):
        raise ApiError(
            400, f"max_tokens is {max_tokens}; give 1 or more, or 0 with echo", param="max_tokens"
        )
    config = sampling_of(body, run, max(1, max_tokens))
    choices = Choices(run)
    if max_tokens:
        choices.ask(prompts, n, config, value_or(body.logprobs, 0))
    return Completion(body, run, prompts, config, choices, max_tokens)


def default_max_tokens(prompts: list[list[int]], run: ServedRun) -> int:
    """Returns how many tokens a text gets where the request does not say it."""
    room = run.model.config.context_length - max(map(len, prompts))
    return max(1, min(DEFAULT_MAX_TOKENS, room))


def listed(prompt: Prompt) -> list[str | list[int]]:
    """Returns the prompts of a request as a list, also where it is one."""
    if prompt is None:
        return [""]
    if isinstance(prompt, str):
        return [prompt]
    ids = [each for each in prompt if isinstance(each, int)]
    return [ids] if ids else [each for each in prompt if not isinstance(each, int)]


def prompts_of(body: CompletionRequest, run: ServedRun) -> list[list[int]]:
    """Returns the tokens of each prompt; an empty one begins a document.

    Raises ApiError where there is none, and where one holds what the model does not have.
    """
    prompts = listed(body.prompt)
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise ApiError(
            400, f"prompt has {len(prompts)} texts, 1 to {MAX_PROMPTS} are taken", param="prompt"
        )
    encoded: list[list[int]] = []
    for prompt in prompts:
        with as_bad_request("prompt"):
            tokens = run.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        size, context = run.model.config.vocab_size, run.model.config.context_length
        for token in tokens:
            if not 0 <= token < size:
                raise ApiError(
                    400,
                    f"prompt has token id {token}; the model has 0 to {size - 1}",
                    param="prompt",
                )
        if len(tokens) > context:
            raise ApiError(
                400,
                f"the prompt has {len(tokens)} tokens and context_length is {context}; shorten it "
                f"(lm-eval: max_length={context})",
                param="prompt",
                code="context_length_exceeded",
            )
        encoded.append(tokens or [run.tokens.bos_token_id])
    return encoded


async def events(completion: Completion) -> AsyncIterator[dict[str, object]]:
    """Yields the events of a stream."""
    async for part in completion.parts():
        yield completion.response([part], None)
    if wants_usage(completion.body):
        yield completion.response([], completion.usage())


async def whole_answer(completion: Completion) -> dict[str, object]:
    """Returns the response that is no stream: its events, joined."""
    parts = await joined(completion.parts())
    return completion.response(parts, completion.usage())
