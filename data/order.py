"""The order in which windows are read, computed for each place on its own: nothing is stored.

Permutation shuffles the windows of one text, however long it is; MixtureSchedule decides from
which of several texts the next window comes (mixture sampling).
Previous: prepared.py.  Next: windows.py.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil

import numpy as np

ROUNDS = 6


class Permutation:
    """The numbers 0 ... n - 1 in a pseudo-random order that a key decides: permutation[place].

        x -> (x ^ a) * m mod 2^b,    x -> x ^ (x >> b/2)        ROUNDS times; a, m from the key

    m is odd, so each line can be inverted and no two places have the same number. A number from n
    on is permuted again until it comes out below n (cycle walking, Black and Rogaway 2002).
    """

    def __init__(self, n: int, *key: int) -> None:
        """Takes n, at least 1, and a key of any number of integers, such as a seed and an epoch."""
        self.n, bits = n, max(1, (n - 1).bit_length())
        self.mask, self.shift = (1 << bits) - 1, (bits + 1) // 2
        words = np.random.SeedSequence([word % 2**64 for word in key]).generate_state(
            2 * ROUNDS, np.uint64
        )
        constants = words.tolist()
        self.rounds = [(a, m | 1) for a, m in zip(constants[::2], constants[1::2], strict=True)]

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, place: int) -> int:
        if not 0 <= place < self.n:
            raise IndexError(place)
        number = self.permute(place)
        while number >= self.n:
            number = self.permute(number)
        return number

    def permute(self, x: int) -> int:
        """Returns the number at place x in the permutation of 0 ... 2^b - 1, with 2^b >= n."""
        for a, m in self.rounds:
            x = ((x ^ a) * m) & self.mask
            x ^= x >> self.shift
        return x


class MixtureSchedule:
    """Decides from which source each window comes, so that at any time each has had its weight.

    Source 0 gives window i where ceil(i * weight) increases, and the other sources share the
    remaining windows in the same way. After any number of windows the count of a source differs
    from its exact share by less than the number of sources.
    """

    def __init__(self, weights: Sequence[float]) -> None:
        """weights are positive numbers; only their ratios count."""
        exact = [Fraction(str(weight)) for weight in weights]
        rests = [sum(exact[k:]) for k in range(len(exact))]
        self.shares_of_rest = [weight / rest for weight, rest in zip(exact, rests, strict=True)]

    def source(self, number: int) -> tuple[int, int]:
        """Returns the source of a window, and how many windows before it come from that source."""
        for k, share in enumerate(self.shares_of_rest):
            before = ceil(number * share)
            if ceil((number + 1) * share) > before:
                return k, before
            number -= before
        raise AssertionError("the last source takes every window that the others leave")

    def counts(self, n_windows: int) -> list[int]:
        """Returns how many of the first n_windows come from each source."""
        counts = []
        for share in self.shares_of_rest:
            counts.append(ceil(n_windows * share))
            n_windows -= counts[-1]
        return counts
