"""The views of the X-ray: each name, and the View that builds, prints and draws it.

They are strings, so that flags are read without torch. Order: as on the page.
Previous: settings.py.  Next: command.py.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visualization.inspection import View

VIEWS = {  # name, which is also its key in the data of the page -> module:View
    "surprise": "visualization.surprise:SURPRISE",
    "alternatives": "visualization.surprise:ALTERNATIVES",
    "ideal": "visualization.ideal_view:IDEAL",
    "attention": "visualization.attention:ATTENTION",
    "heads": "visualization.heads:HEADS",
    "lens": "visualization.lens:LENS",
    "attribution": "visualization.attribution:ATTRIBUTION",
    "twin": "visualization.twin:TWIN",
    "neurons": "visualization.neurons:NEURONS",
    "embeddings": "visualization.embeddings:EMBEDDINGS",
    "growth": "visualization.growth_view:GROWTH",
    "patching": "visualization.circuit_view:CIRCUIT",
    "probes": "visualization.probes_view:PROBES",
    "steering": "visualization.probes_view:STEERING",
}


def load_view(name: str) -> "View":
    """Imports the module of a view and returns the View."""
    module, _, constant = VIEWS[name].partition(":")
    return getattr(import_module(module), constant)
