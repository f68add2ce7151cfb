"""A model of the provider's prompt cache: beginnings of prompts that were seen a short time ago."""

from __future__ import annotations

from collections.abc import Sequence

from plait.simulator.profiles import Profile

_MOST = 100_000


class PromptCache:
    """Whole blocks from a prompt's beginning are kept for `cache_ttl_s` after their last use, for each model."""

    def __init__(self) -> None:
        # Oldest use first: a use moves an entry to the end.
        self._expiries: dict[int, float] = {}

    def look_up(self, profile: Profile, model: str, tokens: Sequence[str], now: float) -> int:
        """How many of the prompt's first tokens are cached; all its whole blocks are from now on."""
        if profile.cache_ttl_s is None or len(tokens) < profile.cache_min_tokens:
            return 0
        cached, unbroken, chain = 0, True, hash(model)
        for end in range(profile.cache_block, len(tokens) + 1, profile.cache_block):
            chain = hash((chain, *tokens[end - profile.cache_block : end]))
            unbroken = unbroken and self._expiries.pop(chain, -1.0) > now
            cached = end if unbroken else cached
            self._expiries.pop(chain, None)
            self._expiries[chain] = now + profile.cache_ttl_s
        while len(self._expiries) > _MOST:
            del self._expiries[next(iter(self._expiries))]
        return cached if cached >= profile.cache_min_tokens else 0
