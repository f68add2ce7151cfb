"""The `plait` command: every failure becomes one message on stderr and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper
from types import FrameType
from typing import NoReturn

from plait.cli import exits

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    words = sys.argv[1:]
    debug = _move_debug_to_front(words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # An answer may hold what the terminal's encoding has no character for.
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")
    try:
        code = _run(words, debug=debug)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer has no reader; without this the interpreter would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = exits.BROKEN_PIPE
    sys.exit(code)


class _Stopped(BaseException):
    """A signal came where no run was there to be cancelled. Not KeyboardInterrupt: typer ends silently on that."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    raise _Stopped(number)


def _run(words: list[str], *, debug: bool) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        from plait.cli.commands import app

        work = app(words, prog_name="plait", standalone_mode=False)
        found = work() if callable(work) else work
        return found if isinstance(found, int) else 0
    except _Stopped as stopped:
        exits.say("stopped; nothing was written")
        return 128 + stopped.number
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001 - the one place where failures become messages
        if hasattr(error, "format_message"):
            return _misused(error)
        return exits.report(error, debug=debug)


def _misused(error: Exception) -> int:
    """A wrong command line: the parser's own message, as one of ours."""
    message = str(getattr(error, "format_message")()).strip()  # noqa: B009 - the class differs between versions of typer
    context = getattr(error, "ctx", None)
    if not message or type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(f"{context.get_help() if context else ''}\n")
    else:
        where = getattr(context, "command_path", "plait")
        exits.say(f"{message} (see {where} --help)")
    return exits.USAGE


def _move_debug_to_front(words: list[str]) -> bool:
    """`--debug` may stand anywhere, though it is an option of `plait` itself."""
    end = words.index("--") if "--" in words else len(words)
    if "--debug" not in words[:end]:
        return False
    words.remove("--debug")
    words.insert(0, "--debug")
    return True
