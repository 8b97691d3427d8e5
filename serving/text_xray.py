"""The X-ray of a text that somebody wrote in the page: the views of `inspect`, or its saved file.

Previous: plain_model.py.  Next: run_page.py.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch

from cfg_gpt2 import require
from commands.language import Language
from run_directory.config_file import read_config
from serving.plain_model import plain_model, require_tokens, written_at
from serving.runs import ServedRun
from visualization.capture import capture
from visualization.inspection import Inspection
from visualization.page import data_of
from visualization.views import load_view

QUICK = ("surprise", "alternatives", "ideal", "attention", "lens", "attribution")
ON_DEMAND = ("heads", "neurons", "embeddings", "growth")  # of the model more than of the text
LIMIT_BYTES = 20 * 10**6  # of the data; of a long text's attention the largest weights are kept
KEPT = 2  # texts whose views are kept, to be saved, or shown beside another view
Key = tuple[Path, int, tuple[int, ...]]  # run, when its weights were written, tokens
KEPT_VIEWS: OrderedDict[Key, dict[str, object | None]] = OrderedDict()  # guarded by plain_model()


def xray(
    run: ServedRun, tokens: list[int], views: Sequence[str], language: Language
) -> dict[str, object]:
    """Returns the data of the X-ray's page for a text; a view that does not apply is left out.

    Raises ValueError for a text that the model cannot read and for a view that is not offered.
    """
    unknown = [view for view in views if view not in QUICK + ON_DEMAND]
    require(
        not unknown,
        f"view {' '.join(unknown)!r} is not offered; choose among {', '.join(QUICK + ON_DEMAND)}",
    )
    with plain_model(run.folder) as model:
        require_tokens(model, tokens)
        inspection = Inspection(
            run=run.folder,
            config=read_config(run.folder),
            model=model,
            tokenizer=run.tokenizer,
            trace=capture(model, torch.tensor([tokens])),
            language=language,
            layers=tuple(range(model.config.n_layer)),
            heads=tuple(range(model.config.n_head)),
            limit_bytes=LIMIT_BYTES,
        )
        built = kept_views(run.folder, tokens)
        for view in views:
            if view not in built:
                built[view] = load_view(view).build(inspection)
        return data_of(inspection, {view: built[view] for view in views if built[view] is not None})


def kept_views(folder: Path, tokens: list[int]) -> dict[str, object | None]:
    """Returns the views of a text that were built before, to be added to."""
    key = (folder, written_at(folder), tuple(tokens))
    KEPT_VIEWS[key] = KEPT_VIEWS.pop(key, {})
    while len(KEPT_VIEWS) > KEPT:
        KEPT_VIEWS.popitem(last=False)
    return KEPT_VIEWS[key]
