"""What a run of the summarize workflow may set, for all its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True)
class Context:
    model: str | None = None
    """`endpoint:model` for this workflow; else the run's."""
    map_prompt: str | None = None
    """Instead of `chains.summarize_text.PROMPT`."""
    combine_prompt: str | None = None
    """Instead of `chains.combine_summaries.PROMPT`."""
    most_chars: Annotated[int, Field(ge=100)] | None = None
    """How many characters of a text one question carries; by default what the model has room for."""
