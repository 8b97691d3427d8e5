"""Peers, the implementations to compare with: installed packages and checkouts of repositories.

Peers are run and never copied: a worker imports their own files.
Previous: candidates.py.  Next: job.py.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from cfg_gpt2 import require
from run_directory.files import sha256
from run_directory.paths import user_path

PACKAGES = ("transformers", "peft", "trl", "tiktoken", "ctranslate2", "llama_cpp")
# the file of a checkout that has the model, at its possible paths
CHECKOUTS = {
    "nanogpt": ("model.py",),
    "book": ("ch04/01_main-chapter-code/gpt.py", "gpt.py"),
}
ORIGINS = {"nanogpt": "karpathy/nanoGPT", "book": "rasbt/LLMs-from-scratch"}
NO_PEERS = "none"

Peers = dict[str, str]  # name -> folder of the checkout; "" for a package


def read_peers(flag: str | None) -> Peers:
    """Returns the peers of a flag such as transformers,nanogpt=FOLDER; None: installed packages.

    Raises ValueError for an unknown peer, FileNotFoundError for a missing folder.
    """
    if flag is None:
        return {name: "" for name in PACKAGES if is_installed(name)}
    peers: Peers = {}
    for part in flag.split(",") if flag != NO_PEERS else []:
        name, _, folder = part.strip().partition("=")
        if name in CHECKOUTS:
            peers[name] = checkout(name, folder)
            continue
        known = [*PACKAGES, *(f"{name}=FOLDER" for name in CHECKOUTS), NO_PEERS]
        require(name in PACKAGES, f"--peers {name} is unknown; choose from {', '.join(known)}")
        require(not folder, f"--peers {name}={folder}: it is a package; write --peers {name}")
        package = "llama-cpp-python" if name == "llama_cpp" else name
        missing = f"--peers {name} is not installed; pip install {package}, or leave it out"
        require(is_installed(name), missing)
        peers[name] = ""
    return peers


def checkout(name: str, folder: str) -> str:
    """Returns the absolute path of a checkout.

    Raises ValueError without a folder, FileNotFoundError for one that is no such checkout.
    """
    origin = f"a checkout of github.com/{ORIGINS[name]}"
    require(bool(folder), f"--peers {name} needs its folder; write {name}=FOLDER, {origin}")
    path = user_path(folder, f"--peers {name}").resolve()
    if not path.is_dir():
        raise FileNotFoundError(f"--peers {name}={folder} is no folder; give {origin}")
    if not any((path / file).is_file() for file in CHECKOUTS[name]):
        file = CHECKOUTS[name][0]
        raise FileNotFoundError(f"--peers {name}={folder} has no {file}; give {origin}")
    return str(path)


def is_installed(package: str) -> bool:
    """Tells whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def import_peer(name: str, folder: str) -> tuple[ModuleType, str]:
    """Imports the model file of a checkout; returns the module and a note with its version."""
    file = next(Path(folder, f) for f in CHECKOUTS[name] if Path(folder, f).is_file())
    sys.path.append(str(file.parent))  # for its own imports; the project's modules take precedence
    spec = importlib.util.spec_from_file_location(f"peer_{name}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module, f"{file.name} with sha256 {sha256(file)[:12]}"
