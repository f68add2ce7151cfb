"""Makes of an experiment one HTML file that needs nothing else: no network, no folder beside it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from plait.errors import StoreError
from plait.reports import costs, payloads, sections
from plait.reports.inputs import ReportInput
from plait.reports.markup import Writer, moment, writer
from plait.reports.masks import Hide, hider

__all__ = ["render_report", "write_report"]

_SCRIPTS = ("values.js", "diffs.js", "details.js", "examples.js")


def render_report(report: ReportInput) -> str:
    """The page. Takes about a second for 5,000 examples, whose texts it holds whole up to a bound that it names.

    Keys, and users and passwords of URLs, are hidden in every text.
    """
    hide = hider(report.keys)
    write = writer(hide)
    parts = {
        "title": write(f"{report.experiment.name} · plait"),
        "style": _asset("report.css"),
        "sections": "\n".join(_sections(report, write)),
        "script": "\n".join(["(() => {", '"use strict";', *map(_asset, _SCRIPTS), "})();"]),
        "generated": moment(report.generated_at),
    }
    blocks = dict(_blocks(report, hide))
    parts["table"] = blocks.pop("table")
    parts["chunks"] = "\n".join(blocks.values())
    page = _asset("report.html")
    # One pass over the template: a text that holds a placeholder's words stays as it is.
    pieces = page.split("%%")
    return "".join(parts[piece] if index % 2 else piece for index, piece in enumerate(pieces))


def write_report(report: ReportInput, file: Path) -> None:
    """Write the page to `file`, which appears, or replaces an older one, when it is whole. Blocks: files.

    Raises StoreError when it cannot be written; the older file is then still there.
    """
    # A link stays one: what it points to is replaced.
    target = file.expanduser().resolve()
    # In the same folder, since a rename does not reach another file system.
    part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
    content = render_report(report).encode()
    try:
        # O_EXCL: nobody can lay a link in our way. The umask decides who may read it, as with any output.
        with open(part, "xb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(target)
    except OSError as error:
        raise StoreError(
            f"cannot write {file}: {error.strerror or error}; the experiment is safe in its folder: make room or "
            "choose another place, then ask for the report again"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _sections(report: ReportInput, write: Writer) -> Iterator[str]:
    yield f"<header>{sections.heading(report, write)}</header>"
    yield sections.thresholds(report, write)
    yield sections.comparison(report, write)
    yield sections.scores(report, write)
    yield sections.distributions(report, write)
    yield f'<div class="pair">{costs.costs(report, write)}{sections.origin(report, write)}</div>'
    yield costs.nodes(report, write)
    yield costs.errors(report, write)


def _blocks(report: ReportInput, hide: Hide) -> Iterator[tuple[str, str]]:
    it, before = report.experiment, report.before
    page = payloads.Runs(
        runs=it.runs,
        earlier={} if before is None else {(run.example.id, run.repetition): run for run in before.runs},
        columns=payloads.columns(it, report.metrics),
        hide=hide,
    )
    table = payloads.table(page, name=it.name, before=None if before is None else before.name)
    yield "table", _block("table", table)
    for index, texts in enumerate(payloads.texts(page)):
        yield f"texts-{index}", _block(f"texts-{index}", texts)
    for index, traces in enumerate(payloads.traces(page)):
        yield f"traces-{index}", _block(f"traces-{index}", traces)


def _block(name: str, value: object) -> str:
    return f'<script type="application/json" id="data-{name}">{payloads.script_text(value)}</script>'


def _asset(name: str) -> str:
    return files("plait.reports").joinpath(name).read_text("utf-8")
