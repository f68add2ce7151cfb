"""Draws a graph as a PNG, offline: layers by grandalf, strokes and text by Pillow (both in the extra `draw`)."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plait.errors import PlaitError

if TYPE_CHECKING:
    from langchain_core.runnables.graph import Graph

Point = tuple[float, float]

_SCALE = 2
"""Pixels per unit of the drawing."""
_SMOOTH = 2
"""Drawn this many times larger and scaled down, since Pillow's strokes have hard edges."""
_FONT = 15
_LABEL_FONT = 12
_MARGIN = 24
_BESIDE = 36
_BELOW = 46
_INK, _LINE, _FILL, _EDGE, _PAPER = "#1f2430", "#5b63b7", "#eef0ff", "#6b7280", "#ffffff"
_END_FILL = "#dfe3ea"


@dataclass(slots=True)
class _Box:
    id: str
    title: str
    width: float
    height: float
    terminal: bool
    x: float = 0.0
    y: float = 0.0
    """The centre."""


@dataclass(slots=True)
class _Line:
    source: str
    target: str
    dashed: bool
    labels: list[str] = field(default_factory=list)
    bends: list[Point] = field(default_factory=list)
    """Where the line passes the layers between its ends."""


def draw(graph: Graph) -> bytes:
    """The graph as a PNG: conditional edges are dashed, start and end are pills.

    Raises PlaitError where the extra `draw` is not installed.
    """
    try:
        import grandalf.layouts  # type: ignore[import-untyped]  # noqa: F401, PLC0415 - an optional extra
        import PIL.ImageDraw  # noqa: F401, PLC0415 - an optional extra
    except ImportError as error:
        raise PlaitError(
            f"drawing needs a package that is not installed ({error.name}): pip install grandalf pillow"
        ) from error
    boxes = _boxes(graph)
    lines = _lines(graph, boxes)
    size = _place(boxes, lines)
    return _paint(boxes, lines, size)


def _boxes(graph: Graph) -> dict[str, _Box]:
    boxes = {}
    for node in graph.nodes.values():
        if is_inner(node.id):
            continue
        terminal = node.id in {"__start__", "__end__"}
        title = node.id.strip("_") if terminal else node.name
        width = max(_text_width(line, _FONT) for line in title.splitlines() or [""])
        boxes[node.id] = _Box(node.id, title, max(64, width + 36), 32 if terminal else 40, terminal)
    return boxes


def is_inner(node_id: str) -> bool:
    """Whether a node is LangGraph's own, such as the one made for an `error_handler`; no edge leads there."""
    return node_id.rpartition(":")[2].startswith("__error_handler__")


def _lines(graph: Graph, boxes: dict[str, _Box]) -> list[_Line]:
    """One line for each pair of nodes and kind, with all the labels of its edges."""
    lines: dict[tuple[str, str, bool], _Line] = {}
    for edge in graph.edges:
        if edge.source in boxes and edge.target in boxes:
            key = (edge.source, edge.target, edge.conditional)
            line = lines.setdefault(key, _Line(*key))
            if edge.data is not None and str(edge.data) != edge.target:
                line.labels.append(str(edge.data))
    return list(lines.values())


# --- where things stand ------------------------------------------------------------------------------


def _place(boxes: dict[str, _Box], lines: list[_Line]) -> tuple[float, float]:
    """Give boxes their centres and lines their bends; returns the width and height of it all."""
    from grandalf.graphs import Edge, Graph, Vertex  # type: ignore[import-untyped]  # noqa: PLC0415 - an optional extra

    vertices: dict[str, Any] = {}
    for box in boxes.values():
        vertices[box.id] = Vertex(box.id)
        vertices[box.id].view = _View(box.width, box.height)
    edges: dict[tuple[str, str], Any] = {}
    for line in lines:
        if line.source != line.target:
            pair = (line.source, line.target)
            edges.setdefault(pair, Edge(vertices[line.source], vertices[line.target]))
    for edge in edges.values():
        edge.view = _Path()
    left = height = 0.0
    has_labels = any(line.labels for line in lines)
    for component in Graph(list(vertices.values()), list(edges.values())).C:
        width, depth = _place_component(component, left, below=_BELOW + (16 if has_labels else 0))
        left += width + _BESIDE
        height = max(height, depth)
    for box in boxes.values():
        box.x, box.y = vertices[box.id].view.xy
    for line in lines:
        if line.source != line.target:
            line.bends = edges[line.source, line.target].view.points[1:-1]
    return left - _BESIDE, height


class _View:
    """What grandalf wants to know about a node's shape, and where it writes the place."""

    def __init__(self, width: float, height: float) -> None:
        self.w, self.h = width, height
        self.xy: Point = (0.0, 0.0)


class _Path:
    """Where grandalf writes an edge's course."""

    def __init__(self) -> None:
        self.points: list[Point] = []

    def setpath(self, points: list[Point]) -> None:
        self.points = points


def _place_component(component: Any, left: float, *, below: int) -> tuple[float, float]:
    from grandalf.layouts import SugiyamaLayout  # noqa: PLC0415 - an optional extra

    layout = SugiyamaLayout(component)
    layout.xspace, layout.yspace = _BESIDE, below
    starts = [vertex for vertex in component.sV if vertex.data == "__start__"]
    roots = starts or [vertex for vertex in component.sV if not vertex.e_in()] or [next(iter(component.sV))]
    layout.init_all(roots=roots)
    layout.draw(4)
    views = [vertex.view for vertex in component.sV]
    paths = [edge.view for edge in component.sE]
    xs = [x for view in views for x in (view.xy[0] - view.w / 2, view.xy[0] + view.w / 2)]
    xs += [x for path in paths for x, _ in path.points]
    shift = left - min(xs)
    for view in views:
        view.xy = (view.xy[0] + shift, view.xy[1])
    for path in paths:
        path.points = [(x + shift, y) for x, y in path.points]
    return max(xs) - min(xs), max(view.xy[1] + view.h / 2 for view in views)


def _course(line: _Line, boxes: dict[str, _Box], *, both_ways: bool) -> list[Point]:
    """The points along a line from border to border, close enough together to look curved."""
    source, target = boxes[line.source], boxes[line.target]
    if source is target:
        right, high = source.x + source.width / 2, source.height * 0.3
        corners = [(right, source.y - high), (right + 30, source.y - high), (right + 30, source.y + high)]
        return _bezier(corners[0], corners[1], corners[2], (right, source.y + high))
    down = 1 if target.y > source.y else -1
    # Two nodes that lead to each other would have both lines on the same course.
    aside = -14 * down if both_ways else 0
    start = (source.x + aside, source.y + down * source.height / 2)
    end = (target.x + aside, target.y - down * target.height / 2)
    stations = [start, *line.bends, end]
    course: list[Point] = []
    for (x0, y0), (x1, y1) in itertools.pairwise(stations):
        pull = (y1 - y0) * 0.5
        course += _bezier((x0, y0), (x0, y0 + pull), (x1, y1 - pull), (x1, y1))
    return course


def _bezier(a: Point, b: Point, c: Point, d: Point, steps: int = 32) -> list[Point]:
    points = []
    for step in range(steps + 1):
        t = step / steps
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
        points.append(
            (
                sum(w * p[0] for w, p in zip(weights, (a, b, c, d), strict=True)),
                sum(w * p[1] for w, p in zip(weights, (a, b, c, d), strict=True)),
            )
        )
    return points


# --- how they look -----------------------------------------------------------------------------------


def _paint(boxes: dict[str, _Box], lines: list[_Line], size: tuple[float, float]) -> bytes:
    from PIL import Image, ImageDraw  # noqa: PLC0415 - an optional extra

    unit = _SCALE * _SMOOTH
    pairs = {(line.source, line.target) for line in lines}
    courses = [_course(line, boxes, both_ways=(line.target, line.source) in pairs) for line in lines]
    labels = [" / ".join(line.labels) for line in lines]
    centres = [_label_centre(*parts) for parts in zip(lines, courses, labels, strict=True)]
    beyond = [x + _text_width(text, _LABEL_FONT) / 2 for (x, _), text in zip(centres, labels, strict=True)]
    right = max([size[0], *(x for course in courses for x, _ in course), *beyond])
    width, height = round((right + 2 * _MARGIN) * unit), round((size[1] + 2 * _MARGIN) * unit)
    image = Image.new("RGB", (width, height), _PAPER)
    brush = _Brush(ImageDraw.Draw(image), unit)
    for line, course in zip(lines, courses, strict=True):
        brush.stroke(course, dashed=line.dashed)
        brush.arrow(course)
    for box in boxes.values():
        brush.box(box)
    for centre, text in zip(centres, labels, strict=True):
        if text:
            brush.label(centre, text)
    smooth = image.resize((max(1, width // _SMOOTH), max(1, height // _SMOOTH)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    smooth.save(file, "PNG", optimize=True)
    return file.getvalue()


def _label_centre(line: _Line, course: list[Point], text: str) -> Point:
    x, y = course[len(course) // 2]
    # On the stroke, but beside a loop, which is too small to be interrupted.
    return (x + 8 + _text_width(text, _LABEL_FONT) / 2, y) if line.source == line.target else (x, y)


class _Brush:
    def __init__(self, canvas: Any, unit: int) -> None:
        self._canvas = canvas
        self._unit = unit

    def _at(self, point: Point) -> Point:
        return (point[0] + _MARGIN) * self._unit, (point[1] + _MARGIN) * self._unit

    def stroke(self, course: list[Point], *, dashed: bool) -> None:
        for piece in _dashes(course) if dashed else [course]:
            self._canvas.line([self._at(p) for p in piece], fill=_EDGE, width=round(1.6 * self._unit), joint="curve")

    def arrow(self, course: list[Point]) -> None:
        tip, before = course[-1], course[-4]
        angle = math.atan2(tip[1] - before[1], tip[0] - before[0])
        wings = [(tip[0] - 9 * math.cos(angle + turn), tip[1] - 9 * math.sin(angle + turn)) for turn in (0.42, -0.42)]
        self._canvas.polygon([self._at(p) for p in (tip, *wings)], fill=_EDGE)

    def box(self, box: _Box) -> None:
        corners = [
            self._at((box.x - box.width / 2, box.y - box.height / 2)),
            self._at((box.x + box.width / 2, box.y + box.height / 2)),
        ]
        self._canvas.rounded_rectangle(
            corners,
            radius=(box.height / 2 if box.terminal else 9) * self._unit,
            fill=_END_FILL if box.terminal else _FILL,
            outline=_EDGE if box.terminal else _LINE,
            width=round(1.5 * self._unit),
        )
        self._text((box.x, box.y), box.title, _FONT)

    def label(self, centre: Point, text: str) -> None:
        half = _text_width(text, _LABEL_FONT) / 2 + 4
        corners = [self._at((centre[0] - half, centre[1] - 9)), self._at((centre[0] + half, centre[1] + 9))]
        self._canvas.rectangle(corners, fill=_PAPER)
        self._text(centre, text, _LABEL_FONT)

    def _text(self, centre: Point, text: str, size: int) -> None:
        self._canvas.text(self._at(centre), text, fill=_INK, font=_font(size * self._unit), anchor="mm", align="center")


def _dashes(course: list[Point], dash: float = 7, gap: float = 5) -> Iterable[list[Point]]:
    """The pieces of a course that are drawn."""
    piece: list[Point] = [course[0]]
    left, drawing = dash, True
    for start, end in itertools.pairwise(course):
        length, done = math.dist(start, end), 0.0
        while length - done > left:
            done += left
            share = done / length
            point = (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)
            if drawing:
                yield [*piece, point]
            drawing = not drawing
            piece, left = [point], dash if drawing else gap
        left -= length - done
        if drawing:
            piece.append(end)
    if drawing and len(piece) > 1:
        yield piece


def _text_width(text: str, size: int) -> float:
    return float(_font(size).getlength(text))


def _font(size: int) -> Any:
    from PIL import ImageFont  # noqa: PLC0415 - an optional extra

    return ImageFont.load_default(size)
