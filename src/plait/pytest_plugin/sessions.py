"""The experiments of one test session: each is run once, whoever asks for it."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol

import pytest

from plait.errors import PlaitError
from plait.pytest_plugin.modes import Mode

if TYPE_CHECKING:
    # Importing LangGraph takes seconds: only sessions that run an experiment wait for it.
    from plait.app import App
    from plait.batches import BatchOptions
    from plait.experiments import Definition
    from plait.pytest_plugin.results import ExperimentResult
    from plait.settings import Settings

__all__ = ["RunExperiment", "Session"]


class RunExperiment(Protocol):
    """The fixture `plait_experiment`."""

    def __call__(
        self,
        experiment: Definition | str,
        *,
        replay: str | None = None,
        name: str | None = None,
        reuse: str | None = None,
        options: BatchOptions | None = None,
        app: App | Path | str | None = None,
        settings: Settings | None = None,
    ) -> ExperimentResult:
        """Run an experiment of eval/experiments.toml, or a Definition; with --plait-replay, replay it.

        `replay` names the recording to replay; `name` and `reuse`, those of `plait.evaluate`, are for real runs. The
        app is the one at or above the test's folder. Asked again for the same, it gives the same result: nothing is run
        twice in a session. The test fails, without a traceback, for whatever is wrong. Blocks, in an async test, too.
        """
        ...


@dataclass(slots=True)
class Session:
    """What a test session has run so far."""

    mode: Mode
    start: Path = field(default_factory=Path)
    """The folder of the test that is running."""
    _known: list[tuple[tuple[object, ...], ExperimentResult]] = field(default_factory=list)
    _said: dict[str, list[str]] = field(default_factory=dict)
    _scratch: Path | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def run(
        self,
        experiment: Definition | str,
        *,
        replay: str | None = None,
        name: str | None = None,
        reuse: str | None = None,
        options: BatchOptions | None = None,
        app: App | Path | str | None = None,
        settings: Settings | None = None,
    ) -> ExperimentResult:
        """See RunExperiment."""
        from plait.batches import BatchOptions  # noqa: PLC0415 - seconds
        from plait.pytest_plugin.runs import Wanted, app_of, explained, run_experiment  # noqa: PLC0415

        try:
            found = app_of(experiment, app, self.start)
            asked = (experiment, found.file if found else None, replay, name, reuse, options, settings)
            if (known := self._find(asked)) is not None:
                return known
            wanted = Wanted(
                definition=experiment,
                app=found,
                scratch=self._folder(),
                replay=replay,
                name=name,
                reuse=reuse,
                settings=settings,
                options=options or BatchOptions(),
            )
            result = run_experiment(wanted, self.mode)
        except PlaitError as error:
            problem = explained(error, self.mode, experiment)
        else:
            self._known.append((asked, result))
            return result
        # Outside the block: pytest would show the error as well, as what was being handled.
        pytest.fail(problem, pytrace=False)

    def news(self) -> dict[str, list[str]]:
        """By experiment id, the lines to say of it, where they have changed since the last call."""
        found = {result.experiment.id: list(result.lines()) for _, result in self._known}
        news = {key: lines for key, lines in found.items() if self._said.get(key) != lines}
        self._said |= news
        return news

    def close(self) -> None:
        """Remove what replays left."""
        self._stack.close()

    def _find(self, asked: tuple[object, ...]) -> ExperimentResult | None:
        for before, result in self._known:
            # Definitions and settings may hold what cannot be compared, such as a table of pandas.
            if all(
                one is other or (isinstance(one, str | Path) and one == other)
                for one, other in zip(before, asked, strict=True)
            ):
                return result
        return None

    def _folder(self) -> Path:
        if self._scratch is None:
            self._scratch = Path(self._stack.enter_context(TemporaryDirectory(prefix="plait-replays-")))
        return self._scratch
