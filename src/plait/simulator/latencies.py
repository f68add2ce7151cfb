"""How long an answer takes to begin."""

from __future__ import annotations

import math

from plait.simulator.draws import Draw
from plait.simulator.profiles import Profile


def latency_s(profile: Profile, in_flight: int, draw: Draw) -> float:
    """Seconds from a request to its headers, by the profile's law."""
    if not profile.latency_s or profile.latency_law == "fixed":
        return profile.latency_s
    if profile.latency_law == "lognormal":
        return profile.latency_s * math.exp(profile.sigma * draw.normal("latency"))
    return profile.latency_s * (1 + in_flight / profile.load_capacity)
