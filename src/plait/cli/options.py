"""Options that several commands have: their flags, units and help."""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from plait.errors import InputError, SettingsError

LIMITS, ROWS, PAUSES, KEEPS, OUTPUT = "Limits", "Rows", "When it pauses or gives up", "What is kept", "Output"

_SPAN = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?:in)?)?(?:(\d+(?:\.\d+)?)s?)?")
_UNITS_S = (86_400.0, 3600.0, 60.0, 1.0)
_NEARLY_DSN = re.compile(r"postgres(?:ql)?(?::|//)|.*:[^/]*@|.*\b(?:host|dbname|user|password)\s*=")

App = Annotated[
    Path | None,
    typer.Option(
        "--app",
        metavar="DIR",
        help="The app: a folder with a langgraph.json. Default: here or above, else plait's own.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[str | None, typer.Option("--model", metavar="ENDPOINT:MODEL", help="E.g. openai:gpt-5.4-mini.")]
Context = Annotated[
    list[str] | None, typer.Option("--context", metavar="KEY=VALUE", help="The workflow's context; repeatable.")
]


def _dsn(text: str) -> str:
    from plait.settings import server_url  # off the start-up path of --help

    try:
        return server_url("store", text, "--store")
    except SettingsError as error:
        raise typer.BadParameter(str(error).partition(": ")[2]) from None


def _file_or_dsn(text: str | None) -> str | None:
    if text is None or "://" in text:
        return text and _dsn(text)
    if _NEARLY_DSN.match(text):  # as a file's name it would show its password
        raise typer.BadParameter("expected a file or postgresql://..., found a text that is neither")
    return text


Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="FILE|DSN",
        callback=_file_or_dsn,
        help="The service's threads, runs and keys: service.db in plait's folder, or postgresql://... (PLAIT_STORE).",
    ),
]


def _keep_in(dsn: str | None) -> None:
    if dsn is not None:
        # Where settings look, those of worker processes too.
        os.environ["PLAIT_STORE"] = _dsn(dsn)


KeptIn = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="DSN",
        help="The PostgreSQL that batches are kept in; PLAIT_STORE keeps its password out of the list of processes.",
        callback=_keep_in,
        rich_help_panel=KEEPS,
    ),
]
"""Takes effect by itself, before the command begins."""
BatchId = Annotated[
    str, typer.Argument(metavar="BATCH", help="Its id, or the beginning of it; `plait batches` lists them.")
]


def span(text: str, flag: str) -> float:
    """Seconds of `90`, `30s`, `15m`, `2h`, `1h30m` or `30d`. Raises InputError, naming the flag."""
    match = _SPAN.fullmatch(text.strip().lower().replace(" ", ""))
    parts = (
        [(float(number), unit) for number, unit in zip(match.groups(), _UNITS_S, strict=True) if number]
        if match
        else []
    )
    seconds = sum(number * unit for number, unit in parts)
    if not 0 < seconds < float("inf"):
        raise InputError(f"{flag}: expected a time above 0 such as 90, 15m, 2h or 30d, found {text!r}")
    return seconds


def bound(flag: str, unit: str, text: str) -> Any:
    """An option among the limits; its value stays text, which settings check as they check a variable's."""
    return typer.Option(flag, metavar=unit, help=text, rich_help_panel=LIMITS)


def option(flag: str, unit: str, text: str, panel: str) -> Any:
    """An option with a value, in a panel of the help."""
    return typer.Option(flag, metavar=unit, help=text, rich_help_panel=panel)


def switch(flag: str, text: str, panel: str) -> Any:
    """An option without a value, in a panel of the help."""
    return typer.Option(flag, help=text, rich_help_panel=panel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of `plait run` and of batches, as the command line gives them."""

    max_concurrency: Annotated[str | None, bound("--max-concurrency", "N", "Model calls in flight at once.")] = None
    rpm: Annotated[str | None, bound("--rpm", "N", "Requests a minute, for endpoints that set none.")] = None
    tpm: Annotated[str | None, bound("--tpm", "N", "Tokens a minute, for endpoints that set none.")] = None
    rpd: Annotated[str | None, bound("--rpd", "N", "Requests a day, for endpoints that set none.")] = None
    tpd: Annotated[str | None, bound("--tpd", "N", "Tokens a day, for endpoints that set none.")] = None
    max_attempts: Annotated[str | None, bound("--max-attempts", "N", "Attempts per call, the first included.")] = None
    max_wait_s: Annotated[str | None, bound("--max-wait", "S", "Seconds to wait for a spent daily quota.")] = None
    budget: Annotated[
        str | None, bound("--budget", "URL", "Share limits with other machines: redis://... or postgresql://...")
    ] = None

    def given(self) -> dict[str, str | None]:
        """By the setting's name."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFlags:
    """Which rows of a dataset a batch takes, and what goes where."""

    mapping: Annotated[
        list[str] | None, option("--map", "INPUT=COLUMN", "An input's column, if named differently; repeatable.", ROWS)
    ] = None
    constants: Annotated[
        list[str] | None,
        option("--set", "INPUT=VALUE", "The same value for every row: =text, :=json, =@file; repeatable.", ROWS),
    ] = None
    limit: Annotated[int | None, option("--limit", "N", "Only the first N rows.", ROWS)] = None
    drawn: Annotated[int | None, option("--sample", "N", "Only N rows, drawn at random.", ROWS)] = None
    seed: Annotated[int, option("--seed", "N", "The same seed draws the same rows.", ROWS)] = 0
    where: Annotated[
        str | None, option("--where", "EXPR", "Only rows such as 'lang == \"en\" and len(text) > 20'.", ROWS)
    ] = None
    id_column: Annotated[
        str | None, option("--id", "COLUMN", "The column of the rows' ids. Default: a hash of the row.", ROWS)
    ] = None
    data_format: Annotated[
        str | None,
        option("--format", "FORMAT", "jsonl, json, csv, tsv, parquet or lines. Default: by name and content.", ROWS),
    ] = None
    on_bad_row: Annotated[str, option("--on-bad-row", "HOW", "stop, or skip rows that cannot be read.", ROWS)] = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseFlags:
    """What ends a batch before its rows do; it can be gone on with then."""

    max_errors: Annotated[int | None, option("--max-errors", "N", "Pause when more rows than this failed.", PAUSES)] = (
        None
    )
    budget_usd: Annotated[
        float | None, option("--budget-usd", "X", "Pause before it has cost more dollars, in all.", PAUSES)
    ] = None
    budget_tokens: Annotated[
        int | None, option("--budget-tokens", "N", "Pause before it has used more tokens, in all.", PAUSES)
    ] = None
    deadline: Annotated[
        str | None,
        option(
            "--deadline",
            "TIME",
            "Pause after this time, e.g. 2h or 45m. (A single call's: PLAIT_DEADLINE_S.)",
            PAUSES,
        ),
    ] = None
    wait: Annotated[
        bool, switch("--wait", "When a day's quota is used up, wait until it resets and go on.", PAUSES)
    ] = False
    workers: Annotated[
        str | None, option("--workers", "N", "Processes that run rows, or auto: one a core. Default: 1.", LIMITS)
    ] = None
    ray: Annotated[
        str | None,
        option("--ray", "ADDRESS", "Run workers on a Ray cluster: HOST:PORT of its head, auto, or local.", LIMITS),
    ] = None
    ray_timeout: Annotated[
        str | None,
        option("--ray-timeout", "TIME", "How long to wait for a place on the cluster. Default: 60s.", LIMITS),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFlags:
    """Where results and progress go."""

    out: Annotated[
        Path | None,
        option(
            "--out",
            "FILE",
            ".jsonl, .csv, .tsv or .parquet, in the order of the rows. Default: JSON lines to stdout as rows end.",
            OUTPUT,
        ),
    ] = None
    quiet: Annotated[bool, switch("--quiet", "Say nothing on stderr but what went wrong.", OUTPUT)] = False
