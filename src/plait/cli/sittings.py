"""Follows a batch that runs: results out, progress shown, signals heeded, the end told, and the exit code."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from plait.batches import Batch, BatchOptions, NewBatch, OldBatch, Progress
from plait.batches.plans import comparison
from plait.cli import exits
from plait.cli.batch_screen import Display, display_for
from plait.cli.batch_words import error_lines, summary
from plait.cli.durations import rows
from plait.cli.lines import Lines
from plait.cli.signals import Drain, leave_soon
from plait.errors import BatchPaused, PlaitError, QuotaReached, StoreError
from plait.exports import export, json_line
from plait.process import own_process
from plait.settings import Settings
from plait.store.places import shelf_of

_NAP_S = 30.0
_LEAVING_S = 2.0


@dataclass(slots=True)
class Sitting:
    """One call of `plait batch` or `plait resume`."""

    wanted: NewBatch | OldBatch
    options: BatchOptions
    settings: Settings
    out: TextIO
    """Where results go as they end, unless there is a `target`."""
    target: Path | None = None
    """The file that gets all results when the batch ends or pauses."""
    shown_target: str = ""
    """As the user wrote it."""
    wait: bool = False
    """Go on by itself when a day's quota that was used up resets."""
    prints_rows: bool = True
    """Whether results go to `out`, where there is no `target`."""
    conclude: Callable[[Batch, int], Awaitable[int]] | None = None
    """Tells what came out when the batch has ended, in place of what is said of failed rows; gets the exit code so far,
    returns the final one."""
    all_ended: bool = False
    """Whether every row of the batch had ended before."""
    quiet: bool = False
    debug: bool = False
    _batch: Batch | None = None
    _drain: Drain | None = None
    _last: tuple[str, Progress] | None = field(default=None)

    async def follow(self) -> int:
        """Run the batch to its end or pause; returns the exit code. Raises PlaitError where it cannot begin."""
        self._drain = Drain(self._begin_drain)
        with own_process(self.settings):
            while (code := await self._sit()) is None:
                continue
        # Threads of rows that timed out in synchronous nodes may linger.
        leave_soon(code, patience_s=_LEAVING_S)
        return code

    async def _sit(self) -> int | None:
        """To the end of the batch, or of a day's quota that is waited for: None, it goes on then."""
        drain = self._drain
        assert drain is not None
        display = display_for(self._look, lambda: drain.draining, self.out, quiet=self.quiet)
        self._batch = Batch(replace(self.wanted, whole=self.target is None and self.prints_rows))
        try:
            await self._take(self._batch, display)
        except BatchPaused as paused:
            display.close()
            cause = paused.__cause__
            if self.wait and isinstance(cause, QuotaReached) and drain.code is None and self._can_go_on():
                return await self._wait(paused, cause)
            return await self._paused(paused)
        except asyncio.CancelledError:
            display.close()
            if drain.code is None:
                raise
            self._say_stopped()
            return drain.code
        except StoreError as error:
            display.close()
            if self._last is None:
                raise
            exits.report(error, debug=self.debug)
            self._tell(self._how_to_go_on())
            return exits.PAUSED
        except OSError as error:
            display.close()
            gone = "nobody reads the output any more; " if isinstance(error, BrokenPipeError) else ""
            self._tell(f"{gone}{self._how_to_go_on()}")
            raise
        finally:
            display.close()
        return await self._ended(drain)

    async def _take(self, batch: Batch, display: Display) -> None:
        lines = Lines(display.write) if self.target is None and self.prints_rows else None
        following = asyncio.create_task(display.follow(), name="plait display")
        try:
            async with aclosing(batch):
                async for record in batch:
                    if lines is not None:
                        await lines.put(json_line(record))
        except PlaitError:
            # What ended before is kept, so no resume would give it again.
            if lines is not None:
                await lines.close()
            raise
        finally:
            self._look()
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        if lines is not None:
            await lines.close()

    def _look(self) -> tuple[str, Progress] | None:
        if self._batch is not None and (now := self._batch.progress()) is not None:
            self._last = (self._batch.id, now)
        return self._last

    def _begin_drain(self) -> bool:
        if self._batch is None or self._batch.progress() is None:
            return False
        self._batch.drain()
        if not self.quiet and not sys.stderr.isatty() and (seen := self._look()):
            self._tell(f"ending {rows(seen[1].running)} in flight; Ctrl-C again stops at once")
        return True

    # --- ends ------------------------------------------------------------------------------------------

    async def _ended(self, drain: Drain) -> int:
        assert self._last is not None
        batch_id, now = self._last
        pending = now.total is None or now.done + now.failed < now.total
        if not self.quiet:
            self._tell(summary(batch_id, now))
            await self._compare(batch_id)
        written = await self._write()
        if self.conclude is None or (drain.code is not None and pending):
            self._say_failures(now, batch_id)
        if drain.code is not None and pending:
            exits.say(f"stopped by Ctrl-C; {self._how_to_go_on()}")
            return drain.code
        if self.conclude is not None and self._batch is not None:
            return await self.conclude(self._batch, 0 if written else exits.FAILED)
        if not written:
            return exits.FAILED
        return exits.FAILED if now.failed else 0

    async def _compare(self, batch_id: str) -> None:
        """Say how right the forecast was, where the batch was planned."""
        settings = self.settings

        def read() -> list[str] | None:
            with shelf_of(settings).place(batch_id).read() as reader:
                return comparison(reader)

        with suppress(StoreError):
            lines = await asyncio.to_thread(read)
            if lines is not None:
                self._tell("\n".join(["the forecast, and what the rows after the probe really did:", *lines]))

    async def _paused(self, paused: BatchPaused) -> int:
        if self._last is not None:
            if not self.quiet:
                self._tell(summary(*self._last, pending=False))
            await self._write()
            self._say_failures(self._last[1], self._last[0])
        return exits.report(paused, debug=self.debug)

    def _can_go_on(self) -> bool:
        """Whether the pending rows are those that were asked for; says so where not."""
        wanted = self.wanted
        # The failed rows became pending as they were begun again: nothing tells them from rows that never ran.
        if isinstance(wanted, OldBatch) and wanted.errors_only and not self.all_ended:
            self._tell("--wait does not go on here: rows that --errors-only leaves out are pending, too")
            return False
        return True

    async def _wait(self, paused: BatchPaused, cause: QuotaReached) -> int | None:
        drain = self._drain
        assert drain is not None
        self._tell(f"{cause}\nwaiting until then, and then going on by itself; Ctrl-C ends the waiting")
        self._batch = None  # a signal stops at once: no row is in flight
        try:
            # Its pieces are short: the clock of the wall may be set, and machines sleep.
            while time.time() < cause.resets_at:  # noqa: ASYNC110 - nobody could tell
                await asyncio.sleep(min(_NAP_S, max(0.0, cause.resets_at - time.time())))
        except asyncio.CancelledError:
            if drain.code is None:
                raise
            await self._write()
            exits.say(f"stopped; {self._how_to_go_on()}")
            return drain.code
        force = isinstance(self.wanted, OldBatch) and self.wanted.force
        self.wanted = OldBatch(
            id=paused.batch_id,
            options=self.options,
            force=force,
            scoring=self.wanted.scoring,
            settings=self.settings,
        )
        return None

    async def _write(self) -> bool:
        """Write --out, where there is one; says so. False where it could not be written, which is told."""
        if self.target is None or self._last is None:
            return True
        target, settings, batch_id = self.target, self.settings, self._last[0]

        def write() -> int:
            with shelf_of(settings).place(batch_id).read() as reader:
                return export(reader, target)

        try:
            count = await asyncio.to_thread(write)
        except StoreError as error:
            exits.say(str(error))
            return False
        if not self.quiet:
            self._tell(f"wrote {self.shown_target} ({rows(count)})")
        return True

    def _say_stopped(self) -> None:
        if self._last is None:
            exits.say("stopped; nothing was run")
            return
        unwritten = f"{self.shown_target} was not written; " if self.target is not None else ""
        exits.say(f"stopped; {unwritten}{self._how_to_go_on()}")

    def _how_to_go_on(self) -> str:
        if self._last is None:
            return "plait batches lists what there is"
        batch_id, now = self._last
        left = None if now.total is None else now.total - now.done - now.failed
        if left == 0:
            return f"all rows are done, and kept: plait export {batch_id} FILE"
        pending = "its rows in flight are pending" if left is None else f"{rows(left)} pending"
        return f"{pending} and nothing is lost: plait resume {batch_id}"

    def _say_failures(self, now: Progress, batch_id: str) -> None:
        if not now.failed:
            return
        said = error_lines(now.errors, now.last_errors)
        lines = [f"{rows(now.failed)} failed (plait show {batch_id})", *said]
        exits.say("\n".join([*lines, f"run them again: plait resume {batch_id} --errors-only"]))

    def _tell(self, text: str) -> None:
        with suppress(BrokenPipeError):
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
