"""Random numbers addressed by seed, quantity and subject instead of drawn from a running stream.

Every number is a hash of (seed, name of the quantity, subject number, index): subject k gets the same values
whatever the block size, the number of subjects, or the order in which quantities are asked for. The mixing
function is the SplitMix64 finaliser (Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number
generators").
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

GOLDEN = 0x9E3779B97F4A7C15


def _mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    import numpy as np

    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True)
class Draws:
    """Random numbers of a set of subjects (or sites).

    Attributes:
        seed: Seed of the trial.
        keys: Subject numbers, shape (n,), at least 0.
    """

    seed: int
    keys: Ints

    def uniform(self, name: str, *shape: int) -> Floats:
        """Uniform on the open interval (0, 1), shape (n, *shape)."""
        import numpy as np

        base = int.from_bytes(hashlib.blake2b(f"{self.seed}/{name}".encode(), digest_size=8).digest(), "big")
        with np.errstate(over="ignore"):
            state = _mix(self.keys.astype(np.uint64) * np.uint64(GOLDEN) + np.uint64(base))
            if shape:
                index = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64).reshape(shape)
                state = state.reshape(-1, *([1] * len(shape))) + index * np.uint64(GOLDEN)
            mixed = _mix(state)
        return (np.asarray(mixed >> np.uint64(11), dtype=np.float64) + 0.5) * 2.0**-53

    def normal(self, name: str, *shape: int) -> Floats:
        """Standard normal."""
        import numpy as np
        from scipy.special import ndtri

        return np.asarray(ndtri(self.uniform(name, *shape)), dtype=np.float64)

    def exponential(self, name: str, *shape: int) -> Floats:
        """Exponential with mean 1."""
        import numpy as np

        return -np.log(self.uniform(name, *shape))

    def gamma(self, name: str, alpha: float) -> Floats:
        """Gamma with shape `alpha` and mean 1."""
        import numpy as np
        from scipy.special import gammaincinv

        return np.asarray(gammaincinv(alpha, self.uniform(name)) / alpha, dtype=np.float64)

    def integers(self, name: str, low: int, high: int, *shape: int) -> Ints:
        """Integers from low to high, both included."""
        import numpy as np

        return (low + np.floor(self.uniform(name, *shape) * (high - low + 1))).astype(np.int64)

    def choice(self, name: str, weights: Floats | list[float] | tuple[float, ...], *shape: int) -> Ints:
        """Index drawn with probability proportional to `weights`."""
        import numpy as np

        cumulative = np.cumsum(np.asarray(weights, dtype=np.float64))
        found = np.searchsorted(cumulative / cumulative[-1], self.uniform(name, *shape), side="right")
        return np.minimum(found, len(cumulative) - 1).astype(np.int64)

    def poisson(self, name: str, mean: Floats, most: int) -> Ints:
        """Poisson counts by inversion, cut at `most`; mean has shape (n,)."""
        import numpy as np

        u = self.uniform(name)
        term = np.exp(-mean)
        below = term.copy()
        count = np.zeros(len(u), dtype=np.int64)
        for k in range(1, most + 1):
            count += u > below
            term = term * mean / k
            below = below + term
        return count
