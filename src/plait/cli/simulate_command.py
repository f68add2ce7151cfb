"""`plait simulate` as the command line sees it; `plait.cli.simulate` does it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

LIMITS, TIMES, TROUBLE, ANSWERS = "Limits", "Times", "Trouble", "Answers"


class WithProfiles(TyperCommand):
    """Its help ends with the profiles; importing them takes a moment, so not before somebody asks."""

    def get_help(self, ctx: Any) -> str:
        from plait.simulator.presets import PRESETS

        told = [f"[bold]{name}[/bold]  {preset.note}" for name, preset in PRESETS.items()]
        self.epilog = "\n\n".join(["Profiles, whose settings the other options replace:", *told])
        return super().get_help(ctx)


def _knob(flag: str, unit: str, text: str, panel: str) -> Any:
    return typer.Option(flag, metavar=unit, help=text, rich_help_panel=panel)


def simulate(
    profile: Annotated[str | None, typer.Option("--profile", metavar="NAME", help="E.g. burst20; see below.")] = None,
    host: Annotated[str, typer.Option("--host", metavar="HOST", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[str, typer.Option("--port", metavar="PORT", help="0 is any that is free.")] = "8989",
    as_json: Annotated[bool, typer.Option("--json", help="Print the counters as lines of JSON.")] = False,
    rpm: Annotated[str | None, _knob("--rpm", "N", "Requests a minute.", LIMITS)] = None,
    burst: Annotated[str | None, _knob("--burst", "N", "Requests at once after a rest (2 s of rpm).", LIMITS)] = None,
    tpm: Annotated[str | None, _knob("--tpm", "N", "Tokens a minute.", LIMITS)] = None,
    token_burst: Annotated[str | None, _knob("--token-burst", "N", "Tokens after a rest (all of tpm).", LIMITS)] = None,
    rpd: Annotated[str | None, _knob("--rpd", "N", "Requests a day.", LIMITS)] = None,
    tpd: Annotated[str | None, _knob("--tpd", "N", "Tokens a day.", LIMITS)] = None,
    max_concurrency: Annotated[str | None, _knob("--max-concurrency", "N", "Requests at once.", LIMITS)] = None,
    over_limit: Annotated[
        str | None, _knob("--over-limit", "HOW", "Above --max-concurrency: refuse or queue.", LIMITS)
    ] = None,
    headers: Annotated[str | None, _knob("--headers", "DIALECT", "openai, azure, anthropic or none.", LIMITS)] = None,
    retry_after: Annotated[str | None, _knob("--retry-after", "FORM", "seconds, date or none.", LIMITS)] = None,
    vague: Annotated[bool, typer.Option("--vague", help="429s give no reason.", rich_help_panel=LIMITS)] = False,
    latency: Annotated[str | None, _knob("--latency", "S", "From a request to its answer's headers.", TIMES)] = None,
    latency_law: Annotated[str | None, _knob("--latency-law", "LAW", "fixed, lognormal or load.", TIMES)] = None,
    ttft: Annotated[str | None, _knob("--ttft", "S", "From the headers to the first token.", TIMES)] = None,
    gap: Annotated[str | None, _knob("--gap", "S", "Between two tokens.", TIMES)] = None,
    cache_ttl: Annotated[str | None, _knob("--cache-ttl", "S", "How long prompts stay cached.", TIMES)] = None,
    faults: Annotated[
        list[str] | None,
        _knob(
            "--fault",
            "KIND=PROBABILITY",
            "429, 429-silent, 500, 502, 503, 529, reset, cut, truncate, stall, drip or content-type; repeatable.",
            TROUBLE,
        ),
    ] = None,
    seed: Annotated[str | None, _knob("--seed", "N", "The same seed, the same faults.", TROUBLE)] = None,
    key: Annotated[str | None, _knob("--key", "KEY", "The only key that is accepted.", TROUBLE)] = None,
    answer: Annotated[
        list[str] | None, _knob("--answer", "REGEX=TEXT", "What is said to such a question; repeatable.", ANSWERS)
    ] = None,
    answers: Annotated[
        str | None, _knob("--answers", "MODULE:FUNCTION", "From the request's body to the answer.", ANSWERS)
    ] = None,
) -> Callable[[], int]:
    """Run a provider on this machine that limits, delays and fails as real ones do; no key, no bill.

    [bold]plait simulate --profile burst20[/bold], and in another terminal

    [bold]export OPENAI_BASE_URL=http://127.0.0.1:8989/v1 OPENAI_API_KEY=none[/bold]

    [bold]plait run story topic="a magical forest" --model openai:simulated[/bold]
    """
    from plait.cli import simulate as implementation

    options = implementation.Options(
        profile,
        changes={
            "rpm": rpm,
            "burst": burst,
            "tpm": tpm,
            "token_burst": token_burst,
            "rpd": rpd,
            "tpd": tpd,
            "max_concurrency": max_concurrency,
            "over_limit": over_limit,
            "headers": headers,
            "retry_after": retry_after,
            "vague": vague,
            "latency_s": latency,
            "latency_law": latency_law,
            "ttft_s": ttft,
            "gap_s": gap,
            "cache_ttl_s": cache_ttl,
            "seed": seed,
            "require_key": key,
        },
        faults=faults or (),
        answer=answer or (),
        answers=answers,
        host=host,
        port=port,
        as_json=as_json,
    )
    return partial(implementation.simulate, options)
