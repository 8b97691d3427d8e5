"""What the page asks for beside the API: runs, vocabularies, curves, verdicts, X-rays, snapshots.

All of it lies under /views/ and needs the key, where there is one. What takes long is computed in
a thread of its own, one question at a time.
Previous: run_page.py.  Next: page/index.html.
"""

from collections.abc import Callable
from typing import Literal, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from decoding.settings import SamplingConfig
from run_directory.config_file import read_config
from serving.errors import as_bad_request
from serving.models import find_run
from serving.run_page import (
    continue_snapshot,
    curve,
    run_view,
    samples,
    settings_of,
    vocabulary,
)
from serving.runs import ServedRun
from serving.schemas import read_body
from serving.text_xray import QUICK, xray
from serving.world_verdict import verdict_on
from visualization.page import as_json, html_of

MAX_TOKENS = 16_384  # of a text, before its model is asked
router = APIRouter(prefix="/views", include_in_schema=False)
T = TypeVar("T")


class TokensRequest(BaseModel):
    """A text of a model's tokens."""

    model_config = ConfigDict(extra="allow", strict=True)
    model: str = Field(description="the name of a served run")
    tokens: list[int] = Field(max_length=MAX_TOKENS, description="a list of token ids")


class XrayRequest(TokensRequest):
    """Which views are wanted, as data or as the saved page in a language."""

    views: list[str] = Field(list(QUICK), max_length=16, description="a list of views")
    language: Literal["en", "ru"] = Field("en", description="en or ru")
    form: Literal["json", "html"] = Field("json", description="json or html")


class SnapshotRequest(BaseModel):
    """What a snapshot shall go on from, and how its tokens are drawn."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
    model: str = Field(description="the name of a served run")
    tokens: list[int] = Field(max_length=MAX_TOKENS, description="a list of token ids")
    step: int = Field(description="a whole number")
    max_tokens: int = Field(100, ge=1, le=1024, description="a whole number from 1 to 1024")
    temperature: float = Field(0.8, description="a number from 0 on")
    top_p: float | None = Field(None, description="a number above 0 and at most 1")
    top_k: int | None = Field(None, description="a whole number")
    min_p: float | None = Field(None, description="a number from 0 to 1")
    repetition_penalty: float = Field(1.0, description="a number above 0")
    presence_penalty: float = Field(0.0, description="a number")
    frequency_penalty: float = Field(0.0, description="a number")
    seed: int = Field(1, description="a whole number")

    def sampling(self, end_of_text: int) -> SamplingConfig:
        """Returns the settings of decoding. Raises ValueError for one that is out of range."""
        return SamplingConfig(
            max_new_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=self.seed,
            stop_tokens=(end_of_text,),
        )


async def answered(compute: Callable[[], T]) -> Response:
    """Computes an answer in a thread, and returns it as JSON. A ValueError becomes status 400."""
    with as_bad_request():
        text = await run_in_threadpool(lambda: as_json(compute()))
    return Response(text, media_type="application/json")


@router.get("/runs")
async def read_runs(request: Request) -> Response:
    """Lists the served runs as the page shows them."""
    runs: dict[str, ServedRun] = request.app.state.runs
    return await answered(lambda: [run_view(run) for run in runs.values()])


@router.get("/vocabulary")
async def read_vocabulary(request: Request, model: str = "") -> Response:
    """Lists what each token of a model stands for."""
    run = find_run(request, model)
    return await answered(lambda: vocabulary(run.tokenizer))


@router.get("/curve")
async def read_curve(request: Request, model: str = "", known: str = "") -> Response:
    """Tells the curve of a run, unless it is known already: `known` lines."""
    run = find_run(request, model)
    n = int(known) if known.isascii() and known.isdecimal() and len(known) < 12 else -1
    return await answered(lambda: curve(run.folder, n))


@router.get("/about")
async def read_about(request: Request, model: str = "") -> Response:
    """Tells the settings that a run was trained with, and what it wrote meanwhile."""
    folder = find_run(request, model).folder
    return await answered(lambda: {"settings": settings_of(folder), "samples": samples(folder)})


@router.post("/verdict")
async def read_verdict(request: Request) -> Response:
    """Tells what a built-in world thinks of a text; null for a run that knows none."""
    body = read_body(TokensRequest, await request.body())
    run = find_run(request, body.model)
    return await answered(lambda: verdict_on(body.tokens, run.tokenizer, read_config(run.folder)))


@router.post("/xray")
async def read_xray(request: Request) -> Response:
    """Looks into a model while it reads a text."""
    body = read_body(XrayRequest, await request.body())
    run = find_run(request, body.model)
    if body.form == "json":
        return await answered(lambda: xray(run, body.tokens, body.views, body.language))
    with as_bad_request():
        page = await run_in_threadpool(
            lambda: html_of(xray(run, body.tokens, body.views, body.language))
        )
    return Response(page, media_type="text/html")


@router.post("/snapshot")
async def read_snapshot(request: Request) -> Response:
    """Lets a snapshot of a run go on from a text."""
    body = read_body(SnapshotRequest, await request.body())
    run = find_run(request, body.model)
    with as_bad_request():
        config = body.sampling(run.tokenizer.end_of_text)
    return await answered(lambda: continue_snapshot(run, body.step, body.tokens, config))
