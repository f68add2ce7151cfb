"""Whose run begins next: fair between clients, interactive before background, one at a time on a thread."""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass

_BACKGROUND_SHARE = 10
"""Every so many-th run is one that nobody waits for, where both wait: they must get on, too."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run that waits for its turn."""

    run_id: str
    thread_id: str
    client: str
    interactive: bool = True
    due_at: float = 0.0
    """Not before, in the queue's clock; 0: at once."""


class FairQueue:
    """Waiting runs. `busy` and `free` tell it which threads have a run: their others wait, in the order they came."""

    def __init__(self) -> None:
        self._ready: tuple[_Clients, _Clients] = (_Clients(), _Clients())
        self._held: dict[str, deque[Waiting]] = {}
        """Runs behind the one that their thread has ready or running."""
        self._later: list[tuple[float, int, Waiting]] = []
        self._gone: set[str] = set()
        self._waiting: dict[str, Waiting] = {}
        self._of: Counter[str] = Counter()
        """Waiting runs by client."""
        self._taken = 0
        self._count = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def has_room(self, client: str, most: int, *, coming: int = 0) -> bool:
        """Whether a client may have another run wait, where `most` may, and so many are about to.

        A client that has filled the queue leaves the others an equal share of it: it may grow to twice as much.
        """
        count = len(self) + coming
        if count < most:
            return True
        clients = len(self._of) + (client not in self._of)
        return count < 2 * most and self._of[client] + coming < most / clients

    def put(self, waiting: Waiting) -> None:
        """Let a run wait."""
        self._gone.discard(waiting.run_id)
        self._waiting[waiting.run_id] = waiting
        self._of[waiting.client] += 1
        if waiting.due_at:
            self._count += 1
            heapq.heappush(self._later, (waiting.due_at, self._count, waiting))
        else:
            self._line_up(waiting)

    def remove(self, run_id: str) -> bool:
        """Whether it was waiting; it is not any more."""
        if run_id not in self._waiting:
            return False
        self._leave(run_id)
        self._gone.add(run_id)
        return True

    def next_due(self) -> float | None:
        """When the next run that has to wait for its time is due."""
        while self._later and self._later[0][2].run_id in self._gone:
            self._gone.discard(heapq.heappop(self._later)[2].run_id)
        return self._later[0][0] if self._later else None

    def take(self, now: float, *, may: Callable[[Waiting], bool] = lambda _: True) -> Waiting | None:
        """The run that begins now, and holds its thread until `free`; None where there is none.

        `may` tells whether its client may have another one running.
        """
        while (due := self.next_due()) is not None and due <= now:
            self._line_up(heapq.heappop(self._later)[2])
        self._taken += 1

        def may_or_is_gone(waiting: Waiting) -> bool:
            return waiting.run_id in self._gone or may(waiting)

        first = 1 if self._taken % _BACKGROUND_SHARE == 0 else 0
        lanes = (self._ready[first], self._ready[1 - first])
        # From the beginning after one that is gone: what was behind it may be in either lane.
        while (found := lanes[0].take(may_or_is_gone) or lanes[1].take(may_or_is_gone)) is not None:
            if found.run_id not in self._gone:
                self._leave(found.run_id)
                return found
            self._gone.discard(found.run_id)
            self.free(found.thread_id)
        self._taken -= 1
        return None

    def free(self, thread_id: str) -> None:
        """The thread's run is over: the next one of it is ready."""
        held = self._held.get(thread_id)
        while held:
            following = held.popleft()
            if following.run_id in self._gone:
                self._gone.discard(following.run_id)
                continue
            self._ready[0 if following.interactive else 1].put(following)
            return
        self._held.pop(thread_id, None)

    def _leave(self, run_id: str) -> None:
        client = self._waiting.pop(run_id).client
        self._of[client] -= 1
        if not self._of[client]:
            del self._of[client]

    def _line_up(self, waiting: Waiting) -> None:
        held = self._held.get(waiting.thread_id)
        if held is not None:
            held.append(waiting)
            return
        self._held[waiting.thread_id] = deque()
        self._ready[0 if waiting.interactive else 1].put(waiting)


class _Clients:
    """Runs that could begin, by client; clients take turns."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, deque[Waiting]] = OrderedDict()

    def put(self, waiting: Waiting) -> None:
        self._of.setdefault(waiting.client, deque()).append(waiting)

    def take(self, may: Callable[[Waiting], bool]) -> Waiting | None:
        for client, line in self._of.items():
            if may(line[0]):
                found = line.popleft()
                if line:
                    self._of.move_to_end(client)
                else:
                    del self._of[client]
                return found
        return None
