"""ServeCommand: the settings of `serve`, made from its flags before torch is imported.

Previous: ../main.py.  Next: slot_cache.py.
"""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from cfg_gpt2 import require, require_count, require_range
from commands.flags import parse_flags
from decoding.settings import Repeated


@dataclass(frozen=True, kw_only=True)
class ServeCommand:
    """Serve runs over HTTP: an API as OpenAI's, and a page for the browser."""

    run: tyro.conf.Positional[tuple[Path, ...]]  # run directories; their names name the models
    best: bool = False  # the weights with the lowest validation loss, not the newest
    host: str = "127.0.0.1"  # the address to listen on; others can connect to 0.0.0.0
    port: int = 8000  # the port to listen on; 0: a free one
    api_key_file: Path | None = None
    """a file with the key that clients send; needed where --host lets others connect"""
    allow_host: Repeated[tuple[str, ...]] = ()
    """a name under which clients call this machine, beside localhost; may be given again"""
    allow_origin: Repeated[tuple[str, ...]] = ()
    """a web site that may call the API, such as https://example.org; may be given again"""
    slots: int = 8  # texts that are written at the same time
    max_waiting: int = 64  # texts that may wait for a slot
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    """of the weights; int8: a quarter of the bytes, at a cost that main.py quantize tells."""
    native: Literal["auto", "on", "off"] = "auto"
    """the decode step in C++, compiled once for this machine; auto takes it for models of 10 M
    parameters and more, on a CPU, where there is a compiler."""

    def __post_init__(self) -> None:
        require(len(self.run) > 0, "name a run directory, such as runs/tiny-world")
        require_range("--port", self.port, 0, 65_535)
        require_count("--slots", self.slots, 1024)
        require_count("--max-waiting", self.max_waiting, 100_000)
        require(
            self.is_local or self.api_key_file is not None,
            f"--host {self.host} lets other machines connect, so a key is needed; write one into "
            "a file and name it by --api-key-file",
        )
        for origin in self.allow_origin:
            require(
                origin.startswith(("http://", "https://")) and origin.count("/") == 2,
                f"--allow-origin {origin} is no origin; write it as https://example.org",
            )
        for name in self.allow_host:
            require(
                name != "" and not set(name) & set("/*@ "),
                f"--allow-host {name!r} is no name of a machine; write it as desk.example.org",
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name, which may lead anywhere
            return False


def read_serve_command(arguments: list[str]) -> ServeCommand:
    """Returns the settings of `serve`. Raises ValueError where flags are wrong."""
    return parse_flags(ServeCommand, "serve", arguments)
