"""How a test session runs its experiments, as its options say: for real, recorded, or replayed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Mode", "add_options", "read_mode"]

_REPLAY, _RECORDINGS, _RECORD = "--plait-replay", "--plait-recordings", "--plait-record"
_NEWEST = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """What the options of a test session say."""

    replays: bool = False
    replay_name: str | None = None
    """The recording of every experiment whose test names none; None: the newest of its definition."""
    recordings: Path | None = None
    """A folder of recordings to replay instead of those in PLAIT_HOME."""
    record: Path | None = None
    """A folder that experiments are put into when they have been run."""


def add_options(parser: pytest.Parser) -> None:
    """Declare the options, and the setting `plait_recordings` of the configuration file."""
    group = parser.getgroup("plait", "experiments with plait")
    group.addoption(
        _REPLAY,
        nargs="?",
        const=_NEWEST,
        metavar="NAME",
        help="Take all answers of experiments from past ones, and send nothing. Write the option behind paths. "
        "NAME: of the past experiment; default: the newest of the same definition.",
    )
    group.addoption(
        _RECORDINGS,
        metavar="DIR",
        help=f"Replay the recordings in DIR, as {_RECORD} writes them, not the experiments in PLAIT_HOME.",
    )
    group.addoption(
        _RECORD,
        metavar="DIR",
        help="Run experiments for real, and put each into DIR, in place of an older one of its definition and name.",
    )
    parser.addini("plait_recordings", f"The folder of {_RECORDINGS}, relative to this file.")


def read_mode(config: pytest.Config) -> Mode:
    """The mode of a session. Raises UsageError where options contradict each other or hold what cannot be meant."""
    here = config.invocation_params.dir
    replay, record = config.getoption(_REPLAY), config.getoption(_RECORD)
    if replay is not None and record is not None:
        raise pytest.UsageError(f"expected {_REPLAY} or {_RECORD}, found both: leave one out")
    if replay and ("/" in replay or "::" in replay or (here / replay).exists()):
        raise pytest.UsageError(
            f"{_REPLAY}: expected the name of an experiment, found the path {replay}: write the option behind the paths"
        )
    recordings = config.getoption(_RECORDINGS)
    if recordings is not None:
        recordings = here / recordings
    elif named := config.getini("plait_recordings"):
        recordings = (config.inipath.parent if config.inipath else config.rootpath) / named
    return Mode(
        replays=replay is not None,
        replay_name=replay or None,
        recordings=recordings,
        record=here / record if record is not None else None,
    )
