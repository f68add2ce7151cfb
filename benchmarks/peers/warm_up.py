"""Lets a subject do a quarter of its rows before it is measured: imports, first connections and first uses are paid."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from benchmarks.peers.contest import Course, Tally

if TYPE_CHECKING:
    import openai

WARM = "warm"
"""The word in a course's setting that asks for it."""
_PART = 4

RUNNER = asyncio.Runner()
"""One loop for the rows before and those that count: clients are kept, and do not outlive a loop."""


@cache
def client_of(base_url: str) -> openai.AsyncOpenAI:
    """The SDK's client, with the connections that the rows before have opened."""
    import openai

    return openai.AsyncOpenAI(base_url=base_url, api_key="none")


def warm_up(subject: Callable[[Course], Tally]) -> None:
    """Before `take_part`, with the same command line."""
    course = Course(**json.loads(sys.argv[1]))
    if WARM in course.setting.split():
        with redirect_stdout(sys.stderr):  # some write their progress there
            subject(replace(course, rows=course.rows // _PART))
