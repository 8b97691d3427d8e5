"""The word cache of `prepare`, against the tokenizer that it stands for.

Previous: native.py.  Next: export.py.
"""

import numpy as np

from diagnostics.verify.check import NotExercised, Unavailable
from diagnostics.verify.checks.generation import n_differences
from diagnostics.verify.comparison import Comparison
from diagnostics.verify.model_under_test import ModelUnderTest
from preparation.word_cache import WordCache

# characters that Python and Unicode class differently as white space, and stretches of it
WHITE_SPACE = (
    " \t two  spaces\r\n\n three\u00a0kinds\u2003of\u3000space \x1c\x1f and \x85 an end  \n "
)


def word_cache(under_test: ModelUnderTest) -> Comparison:
    """Compares the tokens of a text from the cache, once empty and once full, with encode's."""
    tokenizer = under_test.tokenizer
    cache = WordCache(tokenizer, np.dtype(np.uint32))
    if not cache.fits:
        raise Unavailable("the tokenizer does not split text by GPT-2's pattern")
    text = tokenizer.decode(under_test.text) + WHITE_SPACE
    plain = tokenizer.encode(text)
    n_wrong = n_differences(cached_tokens(cache, text), plain)
    n_words = len(cache.tokens)
    n_wrong += n_differences(cached_tokens(cache, text), plain)
    if not 0 < n_words == len(cache.tokens):
        raise NotExercised("the cache keeps no words")
    return Comparison(n_wrong, 0, "tokens; a text has one encoding")


def cached_tokens(cache: WordCache, text: str) -> list[int]:
    """Returns the tokens of a text, as the cache writes them into a token file."""
    return np.frombuffer(cache.encode(text), cache.dtype).tolist()
