"""Workers inside Ray actors, without Ray: when their talk ends, and who ends them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from plait.scale.ray_actors import ActorTalk, RayWorker

RELEASED = threading.Event()


async def leaves_a_thread(talk: ActorTalk, orders: bytes, parcel: bytes | None) -> None:
    """As a row that timed out in a node without await: cancelled, while its thread goes on."""
    asyncio.get_running_loop().run_in_executor(None, RELEASED.wait)
    talk.send("the row timed out")
    if orders:
        raise LookupError(orders.decode())


@contextmanager
def at_work(worker: RayWorker, orders: bytes) -> Generator[None]:
    """As `begin` starts it."""
    RELEASED.clear()
    words = (f"{__name__}:{leaves_a_thread.__name__}", orders, None)
    thread = threading.Thread(target=worker._run, args=words)
    thread.start()
    try:
        yield
    finally:
        RELEASED.set()
        thread.join()


def test_a_worker_that_nobody_asks_ends_itself_after_the_silence_that_its_batch_bears() -> None:
    lines = (
        "import asyncio, time",
        "from plait.scale.ray_actors import RayWorker",
        f"asyncio.run(RayWorker().begin('{__name__}:{leaves_a_thread.__name__}', b'', None, None, 0.5))",
        "time.sleep(60)",
    )
    ended = subprocess.run([sys.executable, "-c", "\n".join(lines)], timeout=60, check=False)
    assert ended.returncode == 1


@pytest.mark.parametrize(("orders", "fate"), [(b"", "it ended by itself"), (b"broken", "LookupError: broken")])
async def test_a_thread_that_goes_on_keeps_no_batch_from_hearing_of_the_end(orders: bytes, fate: str) -> None:
    worker = RayWorker()
    with at_work(worker, orders):
        heard: list[bytes] = []
        found: str | None = None
        async with asyncio.timeout(30.0):
            while found is None:
                messages, found = await worker.hear()
                heard += messages
    assert (len(heard), found) == (1, fate)
