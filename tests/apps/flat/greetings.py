"""A neighbour imported by its plain name."""

import queue

import rich


def hello(name: str) -> str:
    assert hasattr(queue, "SimpleQueue"), "the standard library's queue is hidden by a file of that name"
    assert rich.__file__, "the installed package is hidden by a folder of data"
    return f"hello {name}"
