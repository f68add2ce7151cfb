"""Callbacks that are plain functions are told of tokens as LangChain tells them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, AsyncCallbackManagerForLLMRun, BaseCallbackHandler

from plait.token_callbacks import plain_callbacks


class Told(BaseCallbackHandler):
    """A plain callback as LangGraph's; fails as it is made to."""

    run_inline = True

    def __init__(self, error: Exception | None = None, *, strict: bool = False, deaf: bool = False) -> None:
        self.raise_error = strict
        self.error = error
        self.deaf = deaf
        self.said: list[object] = []

    @property
    def ignore_llm(self) -> bool:
        return self.deaf

    def on_llm_new_token(self, token: object, **about: Any) -> None:
        self.said.append((token, about))
        if self.error:
            raise self.error


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"error": ValueError("no")},
        {"error": ValueError("no"), "strict": True},
        {"error": NotImplementedError("later"), "strict": True},
        {"deaf": True},
    ],
)
async def test_plain_callbacks_are_told_as_langchain_tells_them(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    run_id = uuid4()
    results = []
    for kind in (lambda run: run, plain_callbacks):
        caplog.clear()
        first, second = Told(**options), Told()
        manager = kind(
            AsyncCallbackManagerForLLMRun(
                run_id=run_id, handlers=[first, second], inheritable_handlers=[first], parent_run_id=None, tags=["a"]
            )
        )
        assert manager is not None
        raised = ""
        try:
            await manager.on_llm_new_token("hm", chunk=None, logprobs=None)
        except ValueError as error:
            raised = repr(error)
        said = [(record.name, record.levelno, record.getMessage()) for record in caplog.records]
        results.append((first.said, second.said, raised, said))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "handlers", [[], [AsyncCallbackHandler()], [Told(), AsyncCallbackHandler()], [BaseCallbackHandler()]]
)
def test_callbacks_that_must_be_awaited_or_leave_the_loop_stay_langchains(handlers: list[Any]) -> None:
    manager = AsyncCallbackManagerForLLMRun(
        run_id=uuid4(), handlers=handlers, inheritable_handlers=[], parent_run_id=None
    )
    assert plain_callbacks(manager) is manager
    assert plain_callbacks(None) is None
