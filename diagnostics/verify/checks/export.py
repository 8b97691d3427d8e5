"""The exported folder, opened by transformers, against the model and the tokenizer themselves.

Previous: preparation.py.  Next: ../command.py.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch

from diagnostics.verify.check import Unavailable
from diagnostics.verify.checks.generation import n_differences
from diagnostics.verify.comparison import Comparison
from diagnostics.verify.model_under_test import ModelUnderTest
from diagnostics.verify.rounding import explain_bound, max_abs_diff
from pretrained.hugging_face import write_folder

N_TEXT = 256  # tokens of the text that both tokenizers encode


@torch.inference_mode()
def exported_model(under_test: ModelUnderTest) -> Comparison:
    """Compares transformers' GPT-2 with the exported weights, on the CPU, with the model."""
    with exported_folder(under_test) as folder:
        from transformers import AutoModelForCausalLM

        theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        logits = theirs(under_test.tokens.cpu()).logits
    difference = max_abs_diff(logits, under_test.logits.cpu())
    return Comparison(difference, under_test.fp32_bound, explain_bound(torch.float32))


def exported_tokenizer(under_test: ModelUnderTest) -> Comparison:
    """Compares transformers' tokenizer with the run's own on a text."""
    text = under_test.tokenizer.decode(under_test.text[:N_TEXT])
    own = under_test.tokenizer.encode(text, allow_end_of_text=True)
    with exported_folder(under_test) as folder:
        from transformers import AutoTokenizer

        theirs = AutoTokenizer.from_pretrained(folder).encode(text)
    return Comparison(n_differences(theirs, own), 0, "tokens; a text has one encoding")


@contextmanager
def exported_folder(under_test: ModelUnderTest) -> Iterator[Path]:
    """Inside this context there is a temporary folder as `export` writes it.

    Raises Unavailable where transformers is not installed.
    """
    if find_spec("transformers") is None:
        raise Unavailable("the package transformers is not installed")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        write_folder(under_test.model, under_test.tokenizer, Path(folder))
        yield Path(folder)
