"""POST /v1/embeddings: a text's vector is its length, 1, and zeros."""

from __future__ import annotations

import base64
import struct

from plait.simulator.answers import Reply
from plait.simulator.behaviours import Body
from plait.simulator.shapes.parts import to_json

_DIMENSIONS = 3


def plain(reply: Reply) -> bytes:
    """A list of vectors, as numbers or in base64, of 3 dimensions where the body names no other number."""
    found = reply.body.get("input", "")
    texts = found if isinstance(found, list) else [found]
    asked = reply.body.get("dimensions")
    size = asked if isinstance(asked, int) and asked > 0 else _DIMENSIONS
    data: list[Body] = []
    for index, text in enumerate(texts):
        vector = [float(len(str(text))), 1.0, *[0.0] * size][:size]
        packed = reply.body.get("encoding_format") == "base64"
        embedding = base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() if packed else vector
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    used = {"prompt_tokens": reply.usage.prompt, "total_tokens": reply.usage.prompt}
    return to_json({"object": "list", "model": reply.body.get("model"), "data": data, "usage": used})
