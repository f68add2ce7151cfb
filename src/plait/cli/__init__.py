"""The `plait` command: every failure becomes one message on stderr and an exit code."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from types import FrameType
from typing import NoReturn


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


# Before the other imports, which a signal would end in a traceback; only where this process is the command itself.
if os.path.basename(sys.argv[0]) in {"plait", "-m"}:
    for _number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(_number, _leave)

from io import TextIOWrapper  # noqa: E402

from plait.cli import exits  # noqa: E402

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    words = sys.argv[1:]
    debug = _move_to_front(words)
    _replace_lost_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # An answer may hold what the terminal's encoding has no character for.
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")
    try:
        code = _run(words, debug=debug)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        code = exits.BROKEN_PIPE
    except OSError as error:
        _drop_output()
        exits.say(f"cannot write to standard output: {error.strerror or error}")
        code = exits.FAILED
    sys.exit(code)


def _replace_lost_streams() -> None:
    """Python has None for a stream that was closed when it started, and the next file opened takes its descriptor."""
    if sys.stdin is None:
        os.open(os.devnull, os.O_RDONLY)
    lost_output = sys.stdout is None
    if lost_output:
        os.open(os.devnull, os.O_WRONLY)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    if lost_output:
        exits.say("cannot write to standard output: it is closed")
        sys.exit(exits.USAGE)


def _drop_output() -> None:
    """What is left in the buffer has no reader; without this the interpreter would complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_of_output(error: OSError) -> bool:
    """Whether writing to stdout failed: files and sockets, when they fail, become errors of ours or have a name."""
    return error.filename is None and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class _Stopped(BaseException):
    """A signal came where no run was there to be cancelled. Not KeyboardInterrupt: typer ends silently on that."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    raise _Stopped(number)


def _run(words: list[str], *, debug: bool) -> int:
    # Modules are no garbage, but looking for it takes a fifth of the time in which LangChain's are imported.
    gc.disable()
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _stop)
        from plait.cli.commands import app
        from plait.cli.programs import program_of

        work = program_of(app)(words, prog_name="plait", standalone_mode=False)
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        gc.enable()
        found = work() if callable(work) else work
        return found if isinstance(found, int) else 0
    except _Stopped as stopped:
        exits.say("stopped; nothing was written")
        return 128 + stopped.number
    except SystemExit as left:
        # typer and rich end the process where they write to a pipe that nobody reads.
        if isinstance(left.__context__, BrokenPipeError):
            raise left.__context__ from None
        raise
    except Exception as error:  # the one place where failures become messages
        if isinstance(error, BrokenPipeError) or (isinstance(error, OSError) and _is_of_output(error)):
            raise
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


def _move_to_front(words: list[str]) -> bool:
    """`--debug` and `--log-level` may stand anywhere, though they are options of `plait` itself. True for --debug."""
    end = words.index("--") if "--" in words else len(words)
    front: list[str] = []
    others: list[str] = []
    before = iter(words[:end])
    for word in before:
        if word == "--log-level" and (level := next(before, None)) is not None:
            front += [word, level]
        elif word == "--log-level":
            front, others = [], [word]  # typer says that it wants a value
        elif word == "--debug" or word.startswith("--log-level="):
            front.append(word)
        else:
            others.append(word)
    words[:] = [*front, *others, *words[end:]]
    return "--debug" in front
