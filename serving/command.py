"""`python main.py serve RUN [RUN ...]`: an API and a page, until Ctrl-C or SIGTERM.

Previous: app.py.  Next: world_verdict.py.
"""

import socket
from pathlib import Path

from cfg_gpt2 import require
from commands.streams import say
from serving.settings import ServeCommand

MIN_KEY = 16  # characters


def serve(command: ServeCommand) -> int:
    """Serves runs until the process is asked to end; returns the exit status."""
    try:
        import uvicorn

        from serving.app import make_app
        from serving.runs import open_runs
        from serving.security import Access
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "fastapi", "starlette"):
            raise
        raise ValueError(
            f'serve needs the package {error.name}; pip install -e ".[serve]"'
        ) from None
    key = read_key(command.api_key_file) if command.api_key_file else None
    access = Access(key=key, hosts=command.allow_host, origins=command.allow_origin)
    opened = open_socket(command.host, command.port)
    runs = open_runs(command)
    for run in runs.values():
        run.engine.start()
    host, port = opened.getsockname()[:2]
    print(f"http://{host}:{port}", flush=True)
    say(f"serving {', '.join(runs)}; Ctrl-C ends")
    config = uvicorn.Config(
        make_app(runs, access),
        access_log=False,
        log_level="warning",
        limit_concurrency=256,
        server_header=False,
        timeout_graceful_shutdown=12,
    )
    uvicorn.Server(config).run(sockets=[opened])
    return 0


def read_key(file: Path) -> str:
    """Returns the key in a file. Raises OSError or ValueError where there is none."""
    key = file.read_text(encoding="utf-8").strip()
    require(
        len(key) >= MIN_KEY and key.isascii() and key.isprintable() and " " not in key,
        f"{file} holds no key of at least {MIN_KEY} letters and digits; write one into it, such as "
        "openssl rand -hex 24 prints",
    )
    return key


def open_socket(host: str, port: int) -> socket.socket:
    """Returns a socket bound to an address. Raises ValueError where that is not possible."""
    try:
        return socket.create_server((host, port), backlog=2048)
    except OSError as error:
        raise ValueError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port"
        ) from None
