"""`plait soak`: a workflow against a provider that fails; what survived, what it cost, what leaked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from plait.batches.soaks import Soak, SoakReport, soak
from plait.cli import arguments, exits
from plait.cli.apps import open_app
from plait.cli.batch_words import error_lines, one_line
from plait.cli.durations import rows as count_rows
from plait.cli.durations import size, spell
from plait.cli.options import Limits, span
from plait.cli.signals import Stop, leave_soon
from plait.errors import InputError, SettingsError
from plait.json_values import dumps
from plait.simulator import PRESETS, Profile, preset


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says, as it says it."""

    workflow: str
    limits: Limits
    data: str | None = None
    profile: str = "flaky"
    rows: int = 100
    model: str | None = None
    context: Sequence[str] = ()
    app: Path | None = None
    timeout: str = "60"
    row_attempts: int = 1
    as_json: bool = False


def run_soak(options: Options) -> int:
    """Soak and print the report; returns the exit code, 1 where something leaked or a row ended without a word."""
    profile = read_profile(options.profile)
    app, settings = open_app(options.app, model=options.model)
    # The user's own limits are of their endpoints; here the profile's hold, and those given now.
    settings = replace(settings, max_concurrency=None, rpm=None, tpm=None, rpd=None, tpd=None).override(
        **options.limits.given()
    )
    wanted = Soak(
        workflow=options.workflow,
        app=app,
        profile=profile,
        settings=settings,
        data=options.data,
        rows=options.rows,
        context=arguments.parse(options.context),
        timeout_s=span(options.timeout, "--timeout"),
        row_attempts=options.row_attempts,
    )
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # what nodes print must not mix with the report
        report = asyncio.run(_run(wanted, quiet=options.as_json))
    if isinstance(report, int):
        return report
    if options.as_json:
        out.write(f"{dumps(report.to_json(), indent=2)}\n")
    else:
        print_report(report, options.profile, Console(file=out, highlight=False))
    code = 0 if report.sound else exits.FAILED
    leave_soon(code)  # threads of rows that timed out in synchronous nodes may linger
    return code


async def _run(wanted: Soak, *, quiet: bool) -> SoakReport | int:
    stop = Stop(lambda: "stopped; a soak keeps nothing")
    console = Console(stderr=True, highlight=False)
    shown = console.status("starting") if console.is_terminal and not console.is_dumb_terminal and not quiet else None

    def note(ended: int) -> None:
        if shown is not None:
            shown.update(f"{ended:,} of {count_rows(wanted.rows)}")

    try:
        with shown or contextlib.nullcontext():
            return await soak(wanted, note=note)
    except asyncio.CancelledError:
        if stop.code is None:
            raise
        stop.say()
        return stop.code


def read_profile(name: str) -> Profile:
    """The profile in a TOML or JSON file, or the simulator's of that name. Raises InputError, SettingsError."""
    if name in PRESETS:
        return preset(name)
    file = Path(name)
    try:
        text = file.read_text(encoding="utf-8-sig")
        found: object = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise InputError(
            f"--profile: expected a TOML or JSON file, or one of {', '.join(PRESETS)}, found {name!r}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--profile: {name}: expected a file that can be read: {error}") from error
    except ValueError as error:
        raise InputError(f"--profile: {name}: expected {file.suffix[1:].upper() or 'TOML'}: {error}") from error
    if not isinstance(found, Mapping):
        raise InputError(f"--profile: {name}: expected settings by name, found {found!r}")
    try:
        return Profile().but(**{str(key): tuple(v) if isinstance(v, list) else v for key, v in found.items()})
    except SettingsError as error:
        raise InputError(f"--profile: {name}: {error}") from None


# --- the report for people -----------------------------------------------------------------------------


def print_report(report: SoakReport, profile: str, console: Console) -> None:
    """What survived, what it cost, what leaked."""

    def say(text: str, style: str = "") -> None:
        console.print(Text(text, style=style), soft_wrap=True)

    def table(pairs: Iterator[tuple[str, str]]) -> None:
        grid = Table.grid(padding=(0, 2, 0, 0))
        for label, value in pairs:
            grid.add_row(Text(label, style="dim"), value)
        console.print(Padding(grid, (0, 0, 0, 2), expand=False))

    say(f"{report.workflow} against {profile}: {count_rows(report.rows)} in {spell(report.duration_s)}", "bold")
    say("\nSurvived")
    table(iter([(status, f"{number:,}") for status, number in report.statuses.items()]))
    for line in error_lines(report.errors, report.last_errors, most=8):
        say(f"  {line}", "yellow")
    say("\nCost")
    table(_costs(report))
    say("\nLeft behind")
    table(_held(report))
    for line in (*report.leaks, *(one_line(each) for each in report.unnamed[:8])):
        say(f"  {line}", "red")
    if report.paused:
        say(f"\nIt stopped early: {one_line(report.paused, 1000)}", "red")
    say(f"\n{_verdict(report)}", "bold green" if report.sound else "bold red")


def _costs(report: SoakReport) -> Iterator[tuple[str, str]]:
    usage, server = report.usage, report.server
    answers = usage.get("calls", 0) - usage.get("failed_calls", 0)
    yield "answers", f"{answers:,} of {usage.get('calls', 0):,} calls"
    ratio = report.requests_per_answer
    yield "requests", f"{server.get('received', 0):,}" + (f", {ratio:.2f} for each answer" if ratio else "")
    again = {**server.get("refused", {}), **server.get("faults", {})}
    if again:
        yield "because of", ", ".join(f"{kind} {number:,}" for kind, number in sorted(again.items()))
    yield "equal requests", f"{server.get('duplicates', 0):,} answered again"
    if usage.get("replayed_calls"):
        yield "replayed for free", f"{usage['replayed_calls']:,}"
    cached = f" ({server['cached_tokens']:,} cached)" if server.get("cached_tokens") else ""
    yield (
        "tokens at the server",
        f"{server.get('prompt_tokens', 0):,} in{cached} + {server.get('completion_tokens', 0):,} out",
    )
    counted = f"{usage.get('input_tokens', 0):,} in + {usage.get('output_tokens', 0):,} out"
    yield "tokens of the answers", counted
    yield "in flight at most", f"{server.get('peak', 0):,}"


def _held(report: SoakReport) -> Iterator[tuple[str, str]]:
    before, after = report.before, report.after
    if before is None or after is None:
        yield "nothing measured", "it stopped in the first third"
        return
    yield "permits, waiting calls", f"{after.permits:,}, {after.waiting:,}"
    for label, was, now in (
        ("tasks", before.tasks, after.tasks),
        ("threads", before.threads, after.threads),
        ("open files", before.files, after.files),
    ):
        yield label, f"{now:,} (after the first third {was:,})"
    yield "memory", f"{size(after.memory_bytes)} (after the first third {size(before.memory_bytes)})"


def _verdict(report: SoakReport) -> str:
    if report.sound:
        return "Every row ended with a result or a named error, and nothing leaked."
    what = [f"{len(report.leaks)} leak{'' if len(report.leaks) == 1 else 's'}"] if report.leaks else []
    what += [f"{count_rows(len(report.unnamed))} ended without a word"] if report.unnamed else []
    what += ["it stopped early"] if report.paused else []
    return f"Not sound: {', '.join(what)}."
