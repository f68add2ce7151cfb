"""The bodies and events of each endpoint."""

from __future__ import annotations

from plait.simulator.shapes import chat, embeddings, messages, responses
from plait.simulator.shapes.parts import Shape, Stream

__all__ = ["SHAPES", "Shape", "Stream"]

SHAPES = {
    "/v1/chat/completions": Shape(chat.plain, chat.stream),
    "/v1/responses": Shape(responses.plain, responses.stream),
    "/v1/messages": Shape(messages.plain, messages.stream),
    "/v1/embeddings": Shape(embeddings.plain),
}
