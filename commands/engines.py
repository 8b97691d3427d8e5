"""Engines: what generates faster than the plain model, found by name and imported when asked for.

An engine lives on an upper floor; without that folder everything else works. Its module changes a
finished model from outside, and what it gives is compared with the plain model by
`python main.py verify`.
Previous: generate.py.  Next: ../main.py.
"""

import importlib
from types import ModuleType

ENGINES = {
    "int8": "quantization.int8",  # quantize(model): weights of 8 bits
    "native": "native.compiled",  # compile_model(model): the decode step in C++
}


def load_engine(name: str) -> ModuleType:
    """Imports the module of an engine."""
    return importlib.import_module(ENGINES[name])
