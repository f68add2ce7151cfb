"""Chance that can be repeated: a function of the seed, a request's body and how often that body came."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from statistics import NormalDist

_NORMAL = NormalDist()


def digest(body: bytes) -> int:
    """What stands for a body: 64 bits of it."""
    return int.from_bytes(blake2b(body, digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True)
class Draw:
    """The chances of one request, the `attempt`-th (from 1) with that body."""

    seed: int
    digest: int
    attempt: int

    def uniform(self, purpose: str) -> float:
        """In [0, 1), independent for each purpose."""
        return digest(f"{self.seed} {self.digest} {self.attempt} {purpose}".encode()) / 2**64

    def normal(self, purpose: str) -> float:
        """Standard normal."""
        return _NORMAL.inv_cdf(min(max(self.uniform(purpose), 1e-12), 1 - 1e-12))

    @property
    def id(self) -> str:
        """A name for the answer."""
        return f"{self.digest:016x}{self.attempt:x}"
