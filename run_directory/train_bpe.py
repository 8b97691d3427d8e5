"""Training byte-level BPE with the library, in a time that does not depend on the words.

The library takes a time that grows with the square of the longest word: for 10 MB of DNA, which is
one word, half a day. So long words are cut, for the training only: a text is given in parts that
end within them. All other words, and so the tokens of ordinary text, stay as they are.
Previous: vocabulary.py.  Next: open_run.py.
"""

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, trainers

from run_directory.vocabulary import byte_level

PART = 512  # characters; a word is cut at a multiple of PART where it fills the PART before
SIGNS = re.compile(rf"([^\w\s]|_){{{PART}}}")  # neither letters nor numbers nor white space
SILENT_SECONDS = 2.0  # of learning merges, before the caller is told


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    end_of_text: str,
    on_wait: Callable[[], object] = lambda: None,
) -> Library:
    """Returns a byte-level BPE of at most vocab_size tokens, the end of text first.

    on_wait is called some times a second where learning the merges takes more than two seconds
    after the last text was read. Ctrl-C ends the wait at once.
    """
    library = byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[end_of_text],
        show_progress=False,
    )
    train_in_thread(library, cut_long_words(texts), trainer, on_wait)
    return library


def cut_long_words(texts: Iterable[str]) -> Iterator[str]:
    """Yields texts in parts, so that no word of GPT-2's pattern has 2 * PART characters."""
    for text in texts:
        start = 0
        for stop in range(PART, len(text), PART):
            part = text[stop - PART : stop]
            if part.isalpha() or part.isnumeric() or part.isspace() or SIGNS.match(part):
                yield text[start:stop]
                start = stop
        yield text[start:]


def train_in_thread(
    library: Library,
    texts: Iterable[str],
    trainer: trainers.BpeTrainer,
    on_wait: Callable[[], object],
) -> None:
    """Trains in a thread, since a signal such as Ctrl-C is heard between Python's own steps only.

    The thread is a daemon: the program can end while the library still counts.
    """
    stopped, all_read = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def until_stopped() -> Iterator[str]:
        for text in texts:
            if stopped.is_set():
                raise InterruptedError
            yield text
        all_read.set()

    def train() -> None:
        try:
            library.train_from_iterator(until_stopped(), trainer)
        except BaseException as error:  # noqa: BLE001  raised again in the thread that waits
            errors.append(error)

    thread = threading.Thread(target=train, name="training BPE", daemon=True)
    try:
        thread.start()
        while thread.is_alive() and not all_read.wait(0.1):
            pass
        patient_until = time.monotonic() + SILENT_SECONDS
        while thread.is_alive():
            thread.join(0.1)
            if time.monotonic() > patient_until:
                on_wait()
    finally:
        stopped.set()
        if thread.ident is not None:
            thread.join(1.0)  # reading the texts ends here; counting pairs does not
    if errors:
        raise errors[0]
