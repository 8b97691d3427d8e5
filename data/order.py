"""In which order windows are read, computed for each place on its own: nothing is stored.

Permutation shuffles one text, however long it is; Shares deals several texts out by weight.
Previous: text_files.py.  Next: ../load_data.py.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil

import numpy as np

ROUNDS = 6


class Permutation:
    """The numbers 0 ... n - 1 in an order that the key decides: permutation[place].

        x -> (x ^ a) * m mod 2^b,    x -> x ^ (x >> b/2)        ROUNDS times; a, m from the key

    m is odd, so each line can be undone and no two places meet. A number from n on is sent
    through again until it comes out below n (cycle walking, Black and Rogaway 2002).
    """

    def __init__(self, n: int, *key: int) -> None:
        self.n, bits = n, max(1, (n - 1).bit_length())
        self.mask, self.shift = (1 << bits) - 1, (bits + 1) // 2
        words = np.random.SeedSequence([word % 2**64 for word in key]).generate_state(
            2 * ROUNDS, np.uint64
        )
        drawn = words.tolist()
        self.rounds = [(a, m | 1) for a, m in zip(drawn[::2], drawn[1::2], strict=True)]

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, place: int) -> int:
        if not 0 <= place < self.n:
            raise IndexError(place)
        number = self.shuffle(place)
        while number >= self.n:
            number = self.shuffle(number)
        return number

    def shuffle(self, x: int) -> int:
        """The same for the next power of two."""
        for a, m in self.rounds:
            x = ((x ^ a) * m) & self.mask
            x ^= x >> self.shift
        return x


class Shares:
    """Deals windows out to sources by weight: of the first i, source k has its share of i.

    Source 0 gets window i where ceil(i * share) rises; the others deal the rest out likewise.
    A count is off by less than the number of sources, after any number of windows.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        exact = [Fraction(str(weight)) for weight in weights]
        left = [sum(exact[k:]) for k in range(len(exact))]
        self.of_the_rest = [weight / rest for weight, rest in zip(exact, left, strict=True)]

    def source(self, number: int) -> tuple[int, int]:
        """Whose window it is, and how many that source had before."""
        for k, share in enumerate(self.of_the_rest):
            before = ceil(number * share)
            if ceil((number + 1) * share) > before:
                return k, before
            number -= before
        raise AssertionError("the last source takes all that is left")

    def counts(self, n_windows: int) -> list[int]:
        """How many of the first n_windows each source has."""
        counts = []
        for share in self.of_the_rest:
            counts.append(ceil(n_windows * share))
            n_windows -= counts[-1]
        return counts
