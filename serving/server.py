"""The HTTP server: uvicorn, and how it ends.

At SIGTERM or Ctrl-C it takes no connection any more. Texts that are being written have
SECONDS_TO_END; then their clients are told that they are not finished. A second signal ends the
process at once.
Previous: app.py.  Next: command.py.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Iterable
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from serving.engine import Engine

SECONDS_TO_END = 10
MAX_CONNECTIONS = 256


class Server(uvicorn.Server):
    """Serves an app on a socket; `ended_by` is the signal that has ended it."""

    def __init__(
        self, app: ASGIApp, engines: Iterable[Engine], on_ready: Callable[[], None]
    ) -> None:
        """Makes a server, which `run` starts.

        Args:
            app: what answers the requests.
            engines: those that write for it.
            on_ready: called when clients can connect.
        """
        super().__init__(
            uvicorn.Config(
                app,
                access_log=False,
                log_level="warning",
                ws="none",
                proxy_headers=False,
                server_header=False,
                limit_concurrency=MAX_CONNECTIONS,
                timeout_graceful_shutdown=SECONDS_TO_END + 2,
            )
        )
        self.engines, self.on_ready = list(engines), on_ready
        self.ended_by = 0

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, and says so."""
        await super().startup(sockets)
        self.on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the server and its engines."""
        stops = (asyncio.to_thread(engine.stop, SECONDS_TO_END) for engine in self.engines)
        await asyncio.gather(super().shutdown(sockets), *stops)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to end at the first signal, and ends at the second one."""
        if self.should_exit:
            os._exit(128 + sig)
        self.ended_by, self.should_exit = sig, True
