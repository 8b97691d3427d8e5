"""/v1/completions: texts that continue prompts.

Previous: models.py.  Next: chat.py.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response

from serving.answers import Json, TextAnswer, respond
from serving.choices import Choices, Delta, require_few, sampling_of, value_or
from serving.errors import ApiError, as_bad_request
from serving.log_probabilities import Scored, for_completions, scored_prompt
from serving.models import find_run
from serving.runs import ServedRun
from serving.schemas import MAX_PROMPTS, CompletionRequest, Prompt, read_body

DEFAULT_MAX_TOKENS = 16  # as OpenAI's
router = APIRouter()


@dataclass(kw_only=True)
class Completion(TextAnswer):
    """The texts that continue some prompts."""

    body: CompletionRequest
    prompts: list[list[int]]
    n: int  # texts for each prompt
    max_tokens: int  # 0: the prompts are only echoed

    def choice(self, whole: Delta) -> Json:
        """Returns a text, or what a stream adds to it."""
        logprobs = None
        if self.body.logprobs is not None:
            as_ids = bool(self.body.return_tokens_as_token_ids)
            logprobs = for_completions(self.run.tokenizer, whole.scored, as_ids=as_ids)
        return {
            "text": whole.text,
            "index": whole.index,
            "logprobs": logprobs,
            "finish_reason": whole.finish_reason,
        }

    def choices_of_events(self, delta: Delta) -> list[Json]:
        """Returns the one choice that tells a delta."""
        return [self.choice(delta)]

    async def deltas(self) -> AsyncIterator[Delta]:
        """Yields what is added to the texts: their prompts where asked for, then what follows."""
        echoes = [""] * len(self.prompts)
        if self.body.echo:
            echoes = [self.run.tokenizer.decode(prompt) for prompt in self.prompts]
            scored = await self.scored_prompts()
            for i, text in enumerate(echoes):
                for index in range(i * self.n, (i + 1) * self.n):
                    yield Delta(index, text, scored[i], None if self.max_tokens else "length")
        async for delta in self.choices.deltas(lambda index: len(echoes[index // self.n])):
            yield delta

    async def scored_prompts(self) -> list[list[Scored]]:
        """Returns the tokens of the prompts with their log-probabilities, where asked for."""
        if not self.choices.scorings:
            return [[] for _ in self.prompts]
        scores = await self.choices.scores()
        return [
            scored_prompt(self.run.tokenizer, prompt, *score)
            for prompt, score in zip(self.prompts, scores, strict=True)
        ]


@router.post("/v1/completions")
async def completions(request: Request) -> Response:
    """Continues prompts."""
    body = read_body(CompletionRequest, await request.body())
    run = find_run(request, body.model)
    prompts = await asyncio.to_thread(prompts_of, body, run)
    return await respond(request, body, prepare(request, body, run, prompts), {})


def prepare(
    request: Request, body: CompletionRequest, run: ServedRun, prompts: list[list[int]]
) -> Completion:
    """Gives prompts to the engine. Raises ApiError where they cannot be served."""
    n = value_or(body.n, 1)
    require_few(len(prompts), n)
    if body.best_of is not None and body.best_of != n:
        raise ApiError(400, f"best_of {body.best_of} is not offered; leave it out", param="best_of")
    max_tokens = value_or(body.max_tokens, default_max_tokens(prompts, run))
    if max_tokens < 1 and not (max_tokens == 0 and body.echo):
        raise ApiError(
            400, f"max_tokens is {max_tokens}; give 1 or more, or 0 with echo", param="max_tokens"
        )
    choices = Choices(run, sampling_of(body, run, max(1, max_tokens), run.tokens.eos_token_id))
    if body.echo and body.logprobs is not None:
        choices.score(prompts, body.logprobs)
    if max_tokens:
        choices.ask(prompts, n, value_or(body.logprobs, 0))
    answer = Completion(
        kind="text_completion",
        event_kind="text_completion",
        run=run,
        config=choices.config,
        choices=choices,
        metrics=request.app.state.metrics,
        n_read=sum(map(len, prompts)),
        body=body,
        prompts=prompts,
        n=n,
        max_tokens=max_tokens,
    )
    answer.id = f"cmpl-{answer.id}"
    return answer


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
