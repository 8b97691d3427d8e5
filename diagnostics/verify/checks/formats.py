"""The exported folder, opened by transformers, against the model and the tokenizer themselves.

Previous: quantized.py.  Next: ../command.py.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import torch

from diagnostics.verify.check import Finding, NotHere
from diagnostics.verify.checks.writing import n_unlike
from diagnostics.verify.rounding import largest, reason
from diagnostics.verify.subject import Subject
from pretrained.hugging_face import write_folder

N_TEXT = 256  # tokens that the exported tokenizer is tried on


@torch.inference_mode()
def exported_model(subject: Subject) -> Finding:
    """transformers' own GPT-2, on the CPU, with the exported weights."""
    with exported(subject) as folder:
        from transformers import AutoModelForCausalLM

        theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        logits = theirs(subject.tokens.cpu()).logits
    why = reason(torch.float32)
    return Finding(largest(logits, subject.logits.cpu()), subject.fp32_bound, why)


def exported_tokenizer(subject: Subject) -> Finding:
    """transformers' tokenizer, on the text of the subject."""
    text = subject.tokenizer.decode(subject.text[:N_TEXT])
    wanted = subject.tokenizer.encode(text, allow_end_of_text=True)
    with exported(subject) as folder:
        from transformers import AutoTokenizer

        found = AutoTokenizer.from_pretrained(folder).encode(text)
    return Finding(n_unlike(found, wanted), 0, "tokens; a text has one spelling")


@contextmanager
def exported(subject: Subject) -> Iterator[Path]:
    """A folder as `export` writes it, while it is looked at; transformers stays silent.

    Raises NotHere where transformers is not installed.
    """
    if find_spec("transformers") is None:
        raise NotHere("the package transformers is not installed")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        write_folder(subject.model, subject.tokenizer, Path(folder))
        yield Path(folder)
