"""What to change so that a batch costs or takes less, in plain words, each only where it would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plait.forecasts.durations import Concurrency, Part, Rate
from plait.forecasts.probes import Interval, ProbeRow

# Prompts shorter than this are not cached by any provider that caches by itself.
_CACHED_FROM = 1024
_NOTABLE = 0.2


@dataclass(frozen=True, slots=True)
class Finding:
    """What the draws of a forecast showed."""

    binding: str
    part: str
    holds: Mapping[tuple[str, str], float]
    """Mean seconds each limit, by its name and its part's, would hold the batch up alone."""
    duration_s: Interval
    probe: Sequence[ProbeRow]
    parts: Sequence[Part]
    rows: int
    cached_saves: float
    """The share of the cost that is saved if all input comes from the provider's cache."""


def advise(finding: Finding) -> tuple[str, ...]:
    """Sentences, the most useful first; none where there is nothing to change."""
    if not finding.rows:
        return ()
    failed, probed = sum(row.failed for row in finding.probe), len(finding.probe)
    uncertain = finding.duration_s.high > 3 * finding.duration_s.low and probed < 50 and finding.rows > 100
    found = (
        _binding(finding),
        _caching(finding),
        f"{failed} of {probed} probe rows failed: look at their errors before paying for the rest" if failed else "",
        f"a probe of more than {probed} rows narrows the intervals" if uncertain else "",
    )
    return tuple(sentence for sentence in found if sentence)


def _binding(finding: Finding) -> str:
    part = next((part for part in finding.parts if part.name == finding.part), Part(""))
    where = f" of {part.name}" if part.name else ""
    if finding.binding == "requests/min":
        calls = _mean(finding, part, "calls")
        fewer = f"fewer calls a row (now {calls:.1f}), " if calls > 1.05 else ""
        return (
            f"requests/min{where} {_found(part.requests_per_min)}: {fewer}another key or model with its own limit "
            "would shorten it; more concurrency or workers do not help"
        )
    if finding.binding == "tokens/min":
        return (
            f"tokens/min{where} {_found(part.tokens_per_min)}: {_shorter(finding, part)} or another key or model "
            "with its own limit would shorten it; more concurrency or workers do not help"
        )
    if finding.binding == "concurrency":
        return _concurrency(finding, part, where)
    if finding.binding.endswith("/day"):
        return (
            f"{finding.binding}{where} are too few for this batch: it waits for the next day's "
            "(`plait resume --wait` goes on by itself); another key or model, or a higher quota, ends it sooner"
        )
    if finding.binding == "this process":
        return "this process is the bottleneck, not the endpoint: --workers auto uses the other cores"
    return (
        "no limit of the endpoint is known yet: the batch finds it as it goes, so the finish time is a guess; "
        "set rpm, tpm or max_concurrency if you know them"
    )


def _concurrency(finding: Finding, part: Part, where: str) -> str:
    bound = part.max_concurrency or Concurrency(1)
    if not bound.own:
        return (
            f"concurrency{where} binds ({bound.limit:,} calls at once, {_how(bound.sure)}): shorter answers, "
            "another key or another endpoint would shorten it; workers do not help"
        )
    here = finding.holds.get(("concurrency", finding.part), 0.0)
    others = {key: held for key, held in finding.holds.items() if key != ("concurrency", finding.part)}
    named = max(others, key=lambda key: others[key], default=None)
    advice = f"your limit of {bound.limit:,} calls at once{where} binds: raise --max-concurrency"
    if named is None or others[named] <= 0:
        return advice
    useful = max(bound.limit + 1, round(bound.limit * here / others[named]))
    return f"{advice}, up to about {useful:,}, where {named[0]} takes over"


def _caching(finding: Finding) -> str:
    uses = [use for row in finding.probe for use in row.models.values()]
    calls, prompts = sum(use.calls for use in uses), sum(use.tokens.input for use in uses)
    if not calls or prompts / calls < _CACHED_FROM or finding.cached_saves < _NOTABLE:
        return ""
    cached = sum(use.tokens.cached for use in uses) / prompts
    return (
        f"{cached:.0%} of the input came from the provider's cache: put what prompts have in common first; "
        f"at the very best that saves {finding.cached_saves:.0%} of the cost"
    )


def _shorter(finding: Finding, part: Part) -> str:
    prompts, answers = _mean(finding, part, "input"), _mean(finding, part, "output")
    if prompts >= answers:
        return f"shorter prompts (now {prompts:,.0f} tokens a row)"
    return f"shorter answers (now {answers:,.0f} tokens a row)"


def _mean(finding: Finding, part: Part, what: str) -> float:
    total = 0
    for row in finding.probe:
        for model, use in row.models.items():
            if part.models is None or model in part.models:
                total += {"calls": use.calls, "input": use.tokens.input, "output": use.tokens.output}[what]
    return total / len(finding.probe)


def _found(rate: Rate | None) -> str:
    return "bind" if rate is None else f"bind ({rate.per_minute:,.0f}, {_how(rate.sure)})"


def _how(sure: str) -> str:
    return {"told": "as told", "measured": "as measured"}.get(sure, "a guess so far")
