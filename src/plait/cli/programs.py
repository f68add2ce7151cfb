"""The program as typer has it, for less: a command is built when it is asked for, and the list of them drawn here.

typer builds the parameters of every command before it looks at the command line, and lists commands through rich, whose
import takes longer than everything else that `plait --help` needs.
"""

from __future__ import annotations

import copy
import inspect
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command

if TYPE_CHECKING:
    Command = Any
    """typer's version of click's, or click's own, by the version of typer."""

_WIDEST = 100
_DIM, _NAME, _END = "\033[2m", "\033[1;36m", "\033[0m"


class Program(TyperGroup):
    """The group of all commands; its help has a panel for each kind of them."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help: usage, options, commands by panel, the epilog."""
        commands = self.commands
        if not isinstance(commands, Commands):  # typer built them itself
            super().format_help(ctx, formatter)
            return
        options: list[tuple[str, ...]] = [
            (", ".join(sorted(option.opts, key=len, reverse=True)), option.metavar or "", _told(option))
            for option in self.get_params(ctx)
        ]
        panels: dict[str, list[tuple[str, ...]]] = {"Options": options}
        for name, panel, text in commands.described():
            panels.setdefault(panel, []).append((name, text))
        page = _Page()
        page.text(f"{ctx.command_path} [OPTIONS] COMMAND [ARGS]...", before="Usage: ")
        page.text(self.help or "")
        widest = max(len(name) for name in commands)
        for title, rows in panels.items():
            page.panel(title, rows, first=0 if rows is options else widest)
        page.text(self.epilog or "")
        formatter.write(page.drawn())


class Commands(Mapping[str, Any]):
    """The commands of a typer program by name, each built when it is looked up."""

    def __init__(self, program: typer.Typer) -> None:
        self._program = program
        self._built: dict[str, Command] = {}
        registered: list[Any] = [*program.registered_commands, *program.registered_groups]
        self._known = {str(info.name): info for info in registered}

    def described(self) -> Iterator[tuple[str, str, str]]:
        """Name, panel, and what it does in a sentence."""
        for name, info in self._known.items():
            group = getattr(info, "typer_instance", None)
            text = group.info.help if group is not None else inspect.getdoc(info.callback)
            yield name, info.rich_help_panel, " ".join((text or "").partition("\n\n")[0].split())

    def __getitem__(self, name: str) -> Command:
        if name not in self._built:
            info = self._known[name]
            alone = typer.Typer(
                add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=self._program.rich_markup_mode
            )
            if getattr(info, "typer_instance", None) is not None:
                alone.registered_groups = [info]
                self._built[name] = get_command(alone).commands[name]  # type: ignore[attr-defined]
            else:
                alone.registered_commands = [info]
                self._built[name] = get_command(alone)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def program_of(app: typer.Typer) -> Program:
    """The program, none of its commands built."""
    alone = copy.copy(app)
    alone.registered_commands, alone.registered_groups = [], []
    program = get_command(alone)
    assert isinstance(program, Program), "the app is made with cls=Program"
    program.commands = cast("dict[str, Command]", Commands(app))
    return program


def _told(option: Any) -> str:
    default = option.default if isinstance(option.default, str) else None
    return f"{option.help} [default: {default}]" if default else str(option.help or "")


class _Page:
    """Text and panels, as wide as the terminal."""

    def __init__(self) -> None:
        self._width = min(shutil.get_terminal_size().columns, _WIDEST)
        encoding = (sys.stdout.encoding or "").lower()
        self._frame = "╭─╮│╰╯" if encoding.startswith("utf") else "+-+|++"
        seen = sys.stdout.isatty() and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._dim, self._name, self._end = (
            (_DIM, _NAME, _END) if seen and not os.environ.get("NO_COLOR") else ("", "", "")
        )
        self._lines: list[str] = [""]

    def text(self, text: str, *, before: str = "") -> None:
        for line in f"{before}{text}".splitlines():
            self._lines += [f" {part}" for part in textwrap.wrap(line, max(10, self._width - 2))] or [""]
        self._lines.append("")

    def panel(self, title: str, rows: list[tuple[str, ...]], *, first: int) -> None:
        """Rows whose last column is wrapped; the first is at least `first` characters wide."""
        corner, line, other_corner, side, bottom, other_bottom = tuple(self._frame)
        room = max(20, self._width - 4)
        widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]) - 1)]
        widths[0] = max(widths[0], first)
        left = sum(widths) + 2 * len(widths)
        if self._lines[-1] == "" and len(self._lines) > 1 and self._lines[-2].startswith(bottom):
            self._lines.pop()
        self._lines.append(self._dimmed(f"{corner}{line} {title} ".ljust(room + 3, line) + other_corner))
        for *cells, text in rows:
            for at, part in enumerate(textwrap.wrap(text, max(10, room - left)) or [""]):
                shown = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
                shown[0] = f"{self._name}{shown[0]}{self._end}"
                start = "  ".join(shown) + "  " if at == 0 else " " * left
                pad = " " * max(0, room - left - len(part))
                self._lines.append(f"{self._dimmed(side)} {start}{part}{pad} {self._dimmed(side)}")
        self._lines += [self._dimmed(bottom + line * (room + 2) + other_bottom), ""]

    def drawn(self) -> str:
        return "\n".join(self._lines)

    def _dimmed(self, text: str) -> str:
        return f"{self._dim}{text}{self._end}"
