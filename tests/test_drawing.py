"""PNG drawings of graphs, made offline."""

from __future__ import annotations

import io

from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.graph import Graph
from PIL import Image

from plait.drawing import draw

_same = RunnableLambda(str)


def graph(*edges: tuple[str, str] | tuple[str, str, str]) -> Graph:
    made = Graph()
    nodes = {name: made.add_node(_same, id=name) for name in dict.fromkeys(name for edge in edges for name in edge[:2])}
    for source, target, *label in edges:
        made.add_edge(nodes[source], nodes[target], data=label[0] if label else None, conditional=bool(label))
    return made


def picture(drawn: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(drawn))
    assert image.format == "PNG"
    return image.convert("RGB")


def test_a_chain_is_drawn_from_top_to_bottom() -> None:
    image = picture(draw(graph(("__start__", "write"), ("write", "__end__"))))
    assert image.height > image.width
    colours = {colour for _, colour in image.getcolors(1 << 20) or []}
    assert len(colours) > 3


def test_branches_stand_side_by_side() -> None:
    chain = picture(draw(graph(("__start__", "a"), ("a", "__end__"))))
    fan = picture(draw(graph(*(("__start__", name) for name in "abcd"), *((name, "__end__") for name in "abcd"))))
    assert fan.width > 2 * chain.width
    assert fan.height == chain.height


def test_loops_cycles_labels_and_separate_parts_are_drawn() -> None:
    image = picture(
        draw(
            graph(
                ("__start__", "agent"),
                ("agent", "tools", "call"),
                ("tools", "agent"),
                ("agent", "agent", "again"),
                ("agent", "__end__", "done"),
                ("alone", "other"),
                ("ring", "gnir"),
                ("gnir", "ring"),
            )
        )
    )
    assert image.width > image.height / 2


def test_a_graph_of_one_node_is_drawn() -> None:
    made = Graph()
    made.add_node(_same, id="only")
    assert picture(draw(made)).width > 64


def test_the_same_graph_gives_the_same_picture() -> None:
    edges = (("__start__", "a"), ("a", "b", "yes"), ("a", "c", "no"), ("b", "__end__"), ("c", "__end__"))
    assert draw(graph(*edges)) == draw(graph(*edges))
