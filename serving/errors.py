"""Errors in OpenAI's form: {"error": {"message", "type", "param", "code"}}, without a traceback.

    400 what a request says is wrong    401 403 no or a wrong key, another site    404 no such thing
    413 415 too large, not JSON         429 too many wait                          503 it is ending

Previous: runs.py.  Next: security.py.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

NAMES = {"max_new_tokens": "max_tokens", "min_new_tokens": "min_tokens"}  # of settings in requests

FLAG = re.compile(r"--([a-z][a-z-]*)")


class ApiError(Exception):
    """What a client is told instead of a result."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        """Returns the JSON object that tells the error."""
        kind = {429: "rate_limit_error"}.get(self.status, "invalid_request_error")
        if self.status >= 500:
            kind = "server_error"
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": error}

    def response(self) -> JSONResponse:
        """Returns the response that tells the error."""
        return JSONResponse(self.body(), self.status, self.headers)


@contextmanager
def as_bad_request(param: str | None = None, code: str | None = None) -> Iterator[None]:
    """Turns a ValueError about settings or texts into status 400, in the names of requests."""
    try:
        yield
    except ValueError as error:
        sentence = FLAG.sub(field_of, str(error))
        named = FLAG.search(str(error))
        param = param or (field_of(named) if named else None)
        raise ApiError(400, sentence, param=param, code=code) from None


def field_of(flag: re.Match[str]) -> str:
    """Returns the field of a request that a flag stands for: of --top-p top_p."""
    name = flag[1].replace("-", "_")
    return NAMES.get(name, name)


async def tell_api_error(request: Request, error: Exception) -> JSONResponse:
    """Answers with an ApiError."""
    assert isinstance(error, ApiError)
    return error.response()


async def tell_http_error(request: Request, error: Exception) -> JSONResponse:
    """Answers where the web framework refuses a request: no such path, or no such method."""
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}"
    sentence = {
        404: f"there is no {what}; /openapi.json lists what there is",
        405: f"{what} is not offered; take another method",
    }.get(error.status_code, str(error.detail))
    return ApiError(error.status_code, sentence, headers=error.headers).response()


async def tell_failure(request: Request, error: Exception) -> JSONResponse:
    """Answers where the program itself has failed; what failed stands in the server's log."""
    return ApiError(500, "the server failed; its log says how").response()
