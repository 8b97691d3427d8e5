"""What a client asks before it writes: the models, their tokens, and whether the server is well.

/tokenize, /detokenize and /tokenizer_info are vLLM's, which lm-eval reads; they know the special
tokens, while a prompt's letters are never one.
Previous: answers.py.  Next: completions.py.
"""

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from run_directory.config_file import CONFIG_FILE
from run_directory.json_file import shortened
from serving.errors import ApiError, as_bad_request
from serving.runs import ServedRun
from serving.schemas import read_body

router = APIRouter()


class TokenizeRequest(BaseModel):
    """The body of /tokenize."""

    model_config = ConfigDict(extra="allow", strict=True)
    model: str | None = Field(None, description="the name of a served run")
    prompt: str = Field(description="a text")
    add_special_tokens: bool | None = Field(None, description="true or false")  # there are none


class DetokenizeRequest(BaseModel):
    """The body of /detokenize."""

    model_config = ConfigDict(extra="allow", strict=True)
    model: str | None = Field(None, description="the name of a served run")
    tokens: list[int] = Field(description="a list of token ids")


def find_run(request: Request, name: str | None) -> ServedRun:
    """Returns the run that a request names; without a name, the first one.

    Raises ApiError where there is none of that name.
    """
    runs: dict[str, ServedRun] = request.app.state.runs
    if not name:
        return next(iter(runs.values()))
    if name not in runs:
        raise ApiError(
            404,
            f"there is no model {shortened(name)!r}; take {' or '.join(runs)}",
            param="model",
            code="model_not_found",
        )
    return runs[name]


def described(run: ServedRun) -> dict[str, object]:
    """Returns a run as /v1/models lists it."""
    sizes = run.model.config
    return {
        "id": run.name,
        "object": "model",
        "created": int((run.folder / CONFIG_FILE).stat().st_mtime),
        "owned_by": "gpt2-from-scratch",
        "context_length": sizes.context_length,
        "vocab_size": sizes.vocab_size,
        "parameters": run.model.n_parameters(),
        "chat_format": run.chat.format if run.chat else None,
    }


@router.get("/v1/models")
async def models(request: Request) -> dict[str, object]:
    """Lists the served runs."""
    runs: dict[str, ServedRun] = request.app.state.runs
    return {"object": "list", "data": [described(run) for run in runs.values()]}


@router.get("/v1/models/{name}")
async def model(request: Request, name: str) -> dict[str, object]:
    """Describes one run."""
    return described(find_run(request, name))


@router.get("/health")
async def health(request: Request) -> dict[str, str]:
    """Says that the server can write. Raises ApiError where an engine has ended."""
    runs: dict[str, ServedRun] = request.app.state.runs
    for name, run in runs.items():
        if not run.engine.thread.is_alive():
            raise ApiError(503, f"the engine of {name} has ended")
    return {"status": "ok"}


@router.post("/tokenize")
async def tokenize(request: Request) -> dict[str, object]:
    """Turns a text into token ids."""
    body = read_body(TokenizeRequest, await request.body())
    run = find_run(request, body.model)
    with as_bad_request("prompt"):
        tokens = run.tokenizer.encode(body.prompt, allow_special=True)
    context = run.model.config.context_length
    return {"tokens": tokens, "count": len(tokens), "max_model_len": context}


@router.post("/detokenize")
async def detokenize(request: Request) -> dict[str, object]:
    """Turns token ids into a text."""
    body = read_body(DetokenizeRequest, await request.body())
    with as_bad_request("tokens"):
        return {"prompt": find_run(request, body.model).tokenizer.decode(body.tokens)}


@router.get("/tokenizer_info")
async def tokenizer_info(request: Request, model: str | None = None) -> dict[str, object]:
    """Says which tokens have a meaning of their own."""
    tokenizer = find_run(request, model).tokenizer
    end = tokenizer.end_token
    return {"tokenizer_class": "Tokenizer", "eos_token": end, "bos_token": end, "pad_token": end}
