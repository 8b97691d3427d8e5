"""The app: which path is answered by what, and the files of the page.

Previous: metrics.py.  Next: server.py.
"""

import mimetypes
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse
from starlette.types import ASGIApp

from serving import chat, completions, metrics, models, views
from serving.errors import ApiError, tell_api_error, tell_failure, tell_http_error
from serving.runs import ServedRun
from serving.security import Access, AccessGuard

PAGE = Path(__file__).with_name("page")
XRAY_PAGE = Path(__file__).parents[1] / "visualization" / "page"
SUFFIXES = {".html", ".js", ".css", ".json", ".svg", ".png"}


def make_app(runs: dict[str, ServedRun], access: Access) -> ASGIApp:
    """Returns the app that serves some runs, with its guard before it."""
    app = FastAPI(title="GPT-2 from scratch", docs_url=None, redoc_url=None)
    app.state.runs, app.state.metrics = runs, metrics.Metrics()
    app.add_exception_handler(ApiError, tell_api_error)
    app.add_exception_handler(HTTPException, tell_http_error)
    app.add_exception_handler(Exception, tell_failure)
    for part in (models, completions, chat, metrics, views):
        app.include_router(part.router)
    files = page_files()
    for path, file in files.items():
        add_file(app, path, file)
    return AccessGuard(
        app,
        access,
        is_open=lambda path: path == "/health" or path in files,
        on_response=app.state.metrics.count_request,
    )


def page_files() -> dict[str, Path]:
    """Returns the files of the page by the path under which a browser asks for them."""
    files = {f"/page/{file.name}": file for file in files_in(PAGE)}
    files |= {f"/page/xray/{file.name}": file for file in files_in(XRAY_PAGE)}
    if "/page/index.html" in files:
        files["/"] = files.pop("/page/index.html")
    return files


def files_in(folder: Path) -> list[Path]:
    """Returns the files of a folder that a page may consist of."""
    return sorted(file for file in folder.glob("*") if file.suffix in SUFFIXES)


def add_file(app: FastAPI, path: str, file: Path) -> None:
    """Makes the app answer a path with a file."""
    kind = mimetypes.guess_type(file.name)[0]

    async def send_file() -> FileResponse:
        return FileResponse(file, media_type=kind)

    app.add_api_route(path, send_file, methods=["GET", "HEAD"], include_in_schema=False)
