"""The list of commands: complete, in any width, and each command built when it is asked for."""

from __future__ import annotations

import inspect

import pytest

from plait.cli.commands import app
from plait.cli.programs import Commands, program_of
from tests.command import on_terminal, plait


def test_every_command_is_listed_with_what_its_own_help_says() -> None:
    commands = Commands(app)
    described = {name: (panel, text) for name, panel, text in commands.described()}
    assert list(described) == list(commands)
    assert len(commands) == len(app.registered_commands) + len(app.registered_groups)
    for name, (panel, text) in described.items():
        built = commands[name]
        assert built.name == name
        assert built.rich_help_panel == panel
        assert " ".join(inspect.cleandoc(built.help).partition("\n\n")[0].split()) == text
        assert commands[name] is built


def test_a_command_that_there_is_not_is_not_built() -> None:
    commands = program_of(app).commands
    assert "rnu" not in commands
    with pytest.raises(KeyError):
        commands["rnu"]


@pytest.mark.parametrize("columns", [40, 80, 300])
def test_the_help_fits_the_terminal_and_loses_no_word(columns: int) -> None:
    ended = plait("--help", env={"COLUMNS": str(columns)})
    lines = ended.out.splitlines()
    assert max(map(len, lines)) <= min(columns, 100)
    # Cells of the first column stand in the first line of their row.
    said = "".join(ended.out.replace("│", " ").split())
    for name, _, text in Commands(app).described():
        assert f"│ {name} " in ended.out
        assert "".join(text.split())[:12] in said
    assert "\033" not in ended.out


def shown(env: dict[str, str]) -> bytes:
    with on_terminal("--help", env=env) as terminal:
        terminal.read_to_end()
        return terminal.raw


def test_a_terminal_gets_colours_unless_it_wants_none() -> None:
    assert b"\033[1;36mrun" in shown({})
    assert b"\033[" not in shown({"NO_COLOR": "1"})


def test_a_terminal_without_unicode_gets_frames_of_ascii() -> None:
    page = shown({"PYTHONIOENCODING": "ascii"})
    assert b"+- Run -" in page
    assert b"\\u25" not in page
