"""`python main.py serve RUN [RUN ...]`: an API and a page, until Ctrl-C or SIGTERM.

Previous: server.py.  Next: world_verdict.py.
"""

import socket
from pathlib import Path

from cfg_gpt2 import require
from commands.streams import say
from serving.settings import ServeCommand

PACKAGES = ("uvicorn", "fastapi", "starlette")
MIN_KEY = 16  # characters


def serve(command: ServeCommand) -> int:
    """Serves runs until a signal ends the process; returns the exit status of that signal.

    Raises OSError or ValueError where a run, a key or an address cannot be used.
    """
    try:
        from serving.app import make_app
        from serving.runs import open_runs
        from serving.security import Access
        from serving.server import Server
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        raise ValueError(
            f'serve needs the package {error.name}; pip install -e ".[serve]"'
        ) from None
    key = read_key(command.api_key_file) if command.api_key_file else None
    hosts = tuple(name.lower() for name in command.allow_host)
    access = Access(key=key, hosts=hosts, origins=command.allow_origin)
    with open_socket(command.host, command.port) as opened:
        runs = open_runs(command)
        engines = [run.engine for run in runs.values()]
        for engine in engines:
            engine.start()
        for run in runs.values():
            if run.chat is None:
                say(f"{run.name} was not finetuned for chat; it gets messages as plain text")

        def tell_address() -> None:
            print(address_of(opened), flush=True)
            say(f"serving {', '.join(runs)}; Ctrl-C ends")

        server = Server(make_app(runs, access), engines, tell_address)
        server.run(sockets=[opened])
    return 128 + server.ended_by if server.ended_by else 0


def read_key(file: Path) -> str:
    """Returns the key in a file. Raises OSError or ValueError where there is none."""
    try:
        key = file.read_text(encoding="ascii").strip()
    except UnicodeDecodeError:
        key = ""
    require(
        len(key) >= MIN_KEY and key.isprintable() and " " not in key,
        f"{file} holds no key of at least {MIN_KEY} letters and digits; write one into it, such as "
        "openssl rand -hex 24 prints",
    )
    return key


def open_socket(host: str, port: int) -> socket.socket:
    """Returns a socket bound to an address, on which nobody listens yet.

    Raises ValueError where that is not possible.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except OSError as error:
        raise ValueError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --host or --port"
        ) from None
    return opened


def address_of(opened: socket.socket) -> str:
    """Returns the address of the page, as a browser on this machine reads it."""
    bound, port = opened.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bound, str(bound))
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
