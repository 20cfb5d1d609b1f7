"""Line charts as plain geometry, for a template to draw as SVG: nothing here is markup, so nothing needs to be escaped here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hubdock.core.tables import Point
from hubdock.core.text import make_plain

WIDTH, HEIGHT = 480, 280
LEFT, RIGHT, TOP, BOTTOM = 66, 14, 12, 44
MAX_LINES = 24
_TINY = 1e-290  # below it floating point has no room for a step
MAX_POINTS = 600  # of a line: more than the picture has columns
MAX_DOTS = 20
MAX_TABLE = 100  # rows of the table beneath
STYLES = 8  # of lines: colour and dashes


@dataclass(frozen=True)
class Series:
    """One line to draw. ``style`` from 0 tells its colour, the same for what belongs together, such as a branch."""

    name: str
    points: tuple[Point, ...]
    style: int = 0


@dataclass(frozen=True)
class Line:
    """A drawn line: ``path`` are the points as SVG writes them, ``dots`` the same one by one where they are few. ``dash`` is its own where there are few."""

    name: str
    style: int
    dash: int
    path: str
    dots: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where (SVG units), and its text."""

    at: str
    text: str


@dataclass(frozen=True)
class Chart:
    """One chart. ``description`` says in words what it shows; ``table`` are rows of texts under ``columns``; ``cut`` says that it has not all."""

    title: str
    description: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    columns: tuple[str, ...]
    table: tuple[tuple[str, ...], ...]
    cut: bool
    series: tuple[Series, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON form: the numbers, not the drawing."""
        lines = [{"name": one.name, "points": [list(point) for point in one.points]} for one in self.series]
        return {"title": self.title, "x_label": self.x_label, "y_label": self.y_label, "lines": lines}


def make_chart(title: str, x_label: str, y_label: str, series: Sequence[Series], *, whole_x: bool = False) -> Chart | None:
    """Return the chart of some lines, None if they have no point. ``whole_x`` keeps the marks of x to whole numbers."""
    kept = [one for one in series if one.points][:MAX_LINES]
    if not kept:
        return None
    xs, ys = ([point[axis] for one in kept for point in one.points] for axis in (0, 1))
    x_marks, y_marks = make_marks(min(xs), max(xs), whole=whole_x), make_marks(min(ys), max(ys))
    x_range, y_range = (min(xs), max(xs)), (y_marks[0], y_marks[-1])
    if x_range[0] == x_range[1]:
        x_range = (x_marks[0], x_marks[-1])
    lines = tuple(_draw(one, number, x_range, y_range) for number, one in enumerate(kept))
    x_ticks = tuple(Tick(_place_x(mark, x_range), format_mark(mark)) for mark in x_marks if x_range[0] <= mark <= x_range[1])
    y_ticks = tuple(Tick(_place_y(mark, y_range), format_mark(mark)) for mark in y_marks)
    names = [make_plain(one.name, 120) for one in kept]
    description = "; ".join(f"{name}: {_describe(one)}" for name, one in zip(names, kept, strict=True))
    table, cut = _make_table(kept)
    texts = [make_plain(text, 120) for text in (title, x_label, y_label)]
    cut = cut or len(kept) < sum(bool(one.points) for one in series)
    return Chart(texts[0], description, texts[1], texts[2], lines, x_ticks, y_ticks, tuple(names), table, cut, tuple(kept))


def _describe(one: Series) -> str:
    first, last = one.points[0][1], one.points[-1][1]
    if len(one.points) == 1:
        return f"one point, {format_mark(first)}"
    return f"{len(one.points)} points, from {format_mark(first)} to {format_mark(last)}, lowest {format_mark(min(y for _, y in one.points))}, highest {format_mark(max(y for _, y in one.points))}"


def make_marks(low: float, high: float, count: int = 5, *, whole: bool = False) -> list[float]:
    """Return about ``count`` round numbers that hold ``low`` and ``high`` between them: steps of 1, 2 or 5 times a power of ten."""
    if high - low <= max(max(abs(low), abs(high)) * 1e-9, _TINY):  # all the same
        room = abs(low) * 0.1 if abs(low) > _TINY else 1.0
        low, high = low - room, high + room
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    step = max(1.0, float(round(step))) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{n * step:.12g}") for n in range(first, last + 1)]


def format_mark(value: float) -> str:
    """Return a number as short as an axis needs it."""
    return f"{value:.6g}"


def _scale(value: float, reach: tuple[float, float], start: float, length: float) -> str:
    return f"{start + (value - reach[0]) / (reach[1] - reach[0]) * length:.1f}"


def _place_x(value: float, reach: tuple[float, float]) -> str:
    return _scale(value, reach, LEFT, WIDTH - LEFT - RIGHT)


def _place_y(value: float, reach: tuple[float, float]) -> str:
    return _scale(value, reach, HEIGHT - BOTTOM, -(HEIGHT - TOP - BOTTOM))


def _draw(one: Series, number: int, x_range: Point, y_range: Point) -> Line:
    step = -(-len(one.points) // MAX_POINTS)
    points = [*one.points[::step], one.points[-1]] if step > 1 else one.points
    placed = tuple((_place_x(x, x_range), _place_y(y, y_range)) for x, y in points)
    return Line(make_plain(one.name, 120), one.style % STYLES, number % STYLES, " ".join(f"{x},{y}" for x, y in placed), placed if len(placed) <= MAX_DOTS else ())


def _make_table(series: Sequence[Series]) -> tuple[tuple[tuple[str, ...], ...], bool]:
    """Return rows of (x, y of each line) for the first x of all lines, and whether there are more."""
    values = [{x: y for x, y in one.points} for one in series]
    xs = sorted({x for known in values for x in known})
    rows = [(format_mark(x), *(format_mark(known[x]) if x in known else "" for known in values)) for x in xs[:MAX_TABLE]]
    return tuple(rows), len(xs) > MAX_TABLE
