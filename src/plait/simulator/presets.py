"""Profiles with a name: what they imitate, in a sentence, and how."""

from __future__ import annotations

from dataclasses import dataclass

from plait.errors import SettingsError
from plait.simulator.profiles import FaultKind, Profile

_FLAKY: dict[FaultKind, float] = {
    "429": 0.01,
    "429-silent": 0.01,
    "500": 0.01,
    "502": 0.005,
    "503": 0.01,
    "529": 0.005,
    "reset": 0.01,
    "cut": 0.01,
    "truncate": 0.005,
    "drip": 0.005,
}


@dataclass(frozen=True, slots=True)
class Preset:
    """A profile and what it imitates."""

    note: str
    profile: Profile


# The limits are those that the providers' own pages showed for these tiers; they change theirs as they like.
PRESETS = {
    "openai-tier1": Preset(
        "OpenAI, tier 1, a small model: 500 rpm, 200,000 tpm, 10,000 rpd, all headers",
        Profile(
            rpm=500, tpm=200_000, rpd=10_000, latency_s=0.3, latency_law="lognormal", ttft_s=0.1, gap_s=0.015,
            cache_ttl_s=300, charge="reserved",
        ),
    ),
    "openai-free": Preset(
        "OpenAI's free tier: 3 rpm, 40,000 tpm, 200 rpd; a batch has to wait for the next day",
        Profile(rpm=3, burst=3, tpm=40_000, rpd=200, latency_s=0.3, latency_law="lognormal", gap_s=0.015),
    ),
    "azure-60k": Preset(
        "Azure OpenAI with 60,000 tpm, hence 360 rpm: retry-after-ms, max_tokens count in full",
        Profile(rpm=360, tpm=60_000, headers="azure", charge="reserved", latency_s=0.4, latency_law="lognormal"),
    ),
    "anthropic-tier1": Preset(
        "Anthropic, tier 1: 50 rpm, 38,000 tpm in and out together, now and then 529",
        Profile(
            rpm=50, burst=5, tpm=38_000, headers="anthropic", latency_s=0.8, latency_law="lognormal", gap_s=0.02,
            faults={"529": 0.01},
        ),
    ),
    "burst20": Preset(
        "a proxy that tells nothing: 600 rpm in bursts of 20, bare 429s",
        Profile(rpm=600, burst=20, headers="none", retry_after="none", vague=True, latency_s=0.5),
    ),
    "queue8": Preset(
        "a server of your own (vLLM, llama.cpp) that queues: 8 at once, slower the more there are",
        Profile(
            max_concurrency=8, over_limit="queue", headers="none", latency_s=0.2, latency_law="load",
            load_capacity=8, gap_s=0.005,
        ),
    ),
    "flaky": Preset(
        "no limit, but 8 of 100 answers are errors, resets, cuts or drips",
        Profile(faults=_FLAKY, latency_s=0.1, latency_law="lognormal"),
    ),
}  # fmt: skip


def preset(name: str) -> Profile:
    """The profile of that name. Raises SettingsError where there is none."""
    if name not in PRESETS:
        raise SettingsError(f"profile: expected one of {', '.join(PRESETS)}, found {name!r}")
    return PRESETS[name].profile
