"""Whom the project is compared with: packages that are installed, checkouts that are given.

Peers are run and never copied: a worker imports their own files.
"""

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from cfg_gpt2 import require

PACKAGES = ("transformers", "tiktoken", "ctranslate2", "llama_cpp")
# the file of a checkout that has the model, at the places where it may stand
CHECKOUTS = {
    "nanogpt": ("model.py",),
    "book": ("ch04/01_main-chapter-code/gpt.py", "gpt.py"),
}
ORIGINS = {"nanogpt": "karpathy/nanoGPT", "book": "rasbt/LLMs-from-scratch"}
NOBODY = "none"

Peers = dict[str, str]  # name -> folder of the checkout; "" for a package


def read_peers(flag: str | None) -> Peers:
    """transformers,nanogpt=FOLDER -> the peers; None -> the packages that are installed.

    Raises ValueError for an unknown peer, FileNotFoundError for a folder that is none.
    """
    if flag is None:
        return {name: "" for name in PACKAGES if is_installed(name)}
    peers: Peers = {}
    for part in flag.split(",") if flag != NOBODY else []:
        name, _, folder = part.strip().partition("=")
        if name in CHECKOUTS:
            peers[name] = checkout(name, folder)
            continue
        known = [*PACKAGES, *(f"{name}=FOLDER" for name in CHECKOUTS), NOBODY]
        require(name in PACKAGES, f"--peers {name} is unknown; choose from {', '.join(known)}")
        require(not folder, f"--peers {name}={folder}: it is a package; write --peers {name}")
        package = "llama-cpp-python" if name == "llama_cpp" else name
        wrong = f"--peers {name} is not installed; pip install {package}, or leave it out"
        require(is_installed(name), wrong)
        peers[name] = ""
    return peers


def checkout(name: str, folder: str) -> str:
    """The folder of a checkout, as an absolute path."""
    origin = f"a checkout of github.com/{ORIGINS[name]}"
    require(bool(folder), f"--peers {name} needs its folder; write {name}=FOLDER, {origin}")
    path = Path(folder).expanduser().resolve()
    if not path.is_dir():
        raise FileNotFoundError(f"--peers {name}={folder} is no folder; give {origin}")
    if not any((path / file).is_file() for file in CHECKOUTS[name]):
        wanted = CHECKOUTS[name][0]
        raise FileNotFoundError(f"--peers {name}={folder} has no {wanted}; give {origin}")
    return str(path)


def is_installed(package: str) -> bool:
    """Whether it can be imported."""
    return importlib.util.find_spec(package) is not None


def import_peer(name: str, folder: str) -> tuple[ModuleType, str]:
    """The module of a checkout, and a note that tells which version it is."""
    file = next(Path(folder, f) for f in CHECKOUTS[name] if Path(folder, f).is_file())
    sys.path.append(str(file.parent))  # for what it imports itself; the project's modules go first
    spec = importlib.util.spec_from_file_location(f"peer_{name}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return module, f"{file.name} with sha256 {digest}"
