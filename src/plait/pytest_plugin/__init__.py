"""A pytest plugin, `pytest -p plait.pytest_plugin`: experiments as tests, for real or replayed for free.

    @pytest.mark.experiment("story-quality", mentions_topic=">= 0.8", errors=0)
    def test_story_quality(): ...

    def test_stories(plait_experiment):
        plait_experiment("story-quality").check("mentions_topic", ">= 0.8")

See docs/testing.md.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any

import pytest

from plait.errors import InputError
from plait.pytest_plugin.modes import add_options, read_mode
from plait.pytest_plugin.sessions import RunExperiment, Session

__all__ = ["RunExperiment", "plait_experiment"]

_MARKER = "experiment"
_EXAMPLE = f'@pytest.mark.{_MARKER}("story-quality", mentions_topic=">= 0.8", errors=0)'
_NEWS = "plait_experiments"
"""The attribute of a test's report that carries what is said of experiments, also out of a worker of xdist."""
_session = pytest.StashKey[Session]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Read the options, and declare the marker."""
    config.stash[_session] = session = Session(read_mode(config))
    config.add_cleanup(session.close)
    config.pluginmanager.register(_Summary(), "plait-summary")
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(name, *, replay=None, **thresholds): the test fails where this experiment misses a threshold "
        '(exact=">= 0.8", errors=0); by default its own.',
    )


@pytest.fixture(scope="session")
def plait_experiment(request: pytest.FixtureRequest) -> RunExperiment:
    """Runs experiments, or replays them: `plait_experiment("story-quality").check("exact", ">= 0.8")`."""
    return request.config.stash[_session].run


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Apps are looked for from the test's folder upwards."""
    item.config.stash[_session].start = item.path.parent


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Hold the experiments of a test's markers against their thresholds, before its body runs."""
    for mark in pyfuncitem.iter_markers(_MARKER):
        _check(pyfuncitem.config.stash[_session], mark)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach what is new to say of experiments."""
    report = yield
    if news := item.config.stash[_session].news():
        setattr(report, _NEWS, news)
    return report


class _Summary:
    """What is told at the end: the experiments of all reports, those of other processes included."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._lines |= getattr(report, _NEWS, {})

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._lines:
            terminalreporter.ensure_newline()
            terminalreporter.section("experiments")
        for lines in self._lines.values():
            for line in lines:
                terminalreporter.write_line(line)


def _check(session: Session, mark: pytest.Mark) -> None:
    names, thresholds = mark.args, dict(mark.kwargs)
    replay = thresholds.pop("replay", None)
    if len(names) != 1 or not isinstance(replay, str | None):
        pytest.fail(f"expected {_EXAMPLE}, found {len(names)} names and replay={replay!r}", pytrace=False)
    _check_bounds(thresholds)
    result = session.run(names[0], replay=replay)
    if problem := result.problem(thresholds or result.demanded()):
        pytest.fail(problem, pytrace=False)


def _check_bounds(thresholds: Mapping[str, Any]) -> None:
    """Fail the test for one that cannot be read, before anything is paid."""
    from plait.experiments.thresholds import parse_threshold  # noqa: PLC0415 - seconds

    problem = ""
    try:
        for key, bound in thresholds.items():
            parse_threshold(key, bound)
    except InputError as error:
        problem = str(error)
    if problem:
        pytest.fail(problem, pytrace=False)
