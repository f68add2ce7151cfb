"""Threads go for good: their runs end first, then what is known of them, then their checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from plait.store.service.records import Access
from plait.store.service.threads import ThreadQuery

if TYPE_CHECKING:
    from plait.service.routes.asks import Ask

_AT_ONCE = 100


async def remove_thread(asked: Ask, thread_id: str, access: Access) -> bool:
    """Cancel a thread's runs and delete all of it; False where the caller may see no such thread."""
    service = asked.service
    if await service.store.threads.get(thread_id, access) is None:
        return False
    await service.runner.forget_thread(thread_id)
    if not await service.store.threads.delete(thread_id, access):
        return False
    await service.saver.adelete_thread(thread_id)
    return True


async def remove_threads_of(asked: Ask, assistant_id: str) -> None:
    """The same for all threads whose last run was of this assistant."""
    query = ThreadQuery(metadata={"assistant_id": assistant_id})
    access = await asked.access("threads", "search", {"metadata": {"assistant_id": assistant_id}})
    offset = 0
    while found := await asked.service.store.threads.search(access, query, limit=_AT_ONCE, offset=offset):
        for thread in found:
            deleting = await asked.access("threads", "delete", {"thread_id": UUID(thread.thread_id)})
            offset += not await remove_thread(asked, thread.thread_id, deleting)
