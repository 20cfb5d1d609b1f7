"""Charts: geometry that fits its picture whatever the numbers are, and SVG that is well formed whatever the names are."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hubdock.core.charts import HEIGHT, MAX_LINES, WIDTH, Series, make_chart, make_marks
from hubdock.core.errors import RecipeError
from hubdock.core.pipeline import PlotLine
from hubdock.core.tables import make_points, parse_table
from hubdock.service.pages import TEMPLATES, _environment

NUMBERS = st.floats(-1e299, 1e299) | st.integers(-(10**18), 10**18).map(float)
SERIES = st.builds(Series, st.text(max_size=20), st.lists(st.tuples(NUMBERS, NUMBERS), max_size=20).map(tuple), st.integers(0, 30))


def draw(chart: object) -> str:
    template = _environment.from_string('{% from "chart.html" import draw %}{{ draw(chart, "c") }}')
    return template.render(chart=chart)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.lists(SERIES, max_size=5))
@example("", [Series("", ((0.0, 0.0), (0.0, 5e-324)))])
@example("", [Series("", ((5e-324, 1e-320), (3e-310, 2e-308)))])
def test_any_chart_is_well_formed_and_inside_its_picture(title: str, series: list[Series]) -> None:
    chart = make_chart(title, title, title, series)
    if chart is None:
        assert not any(one.points for one in series)
        return
    svg = draw(chart).partition("<svg viewBox")[2].partition("</svg>")[0]
    root = ElementTree.fromstring(f"<svg viewBox{svg}</svg>")
    for line in root.iter("polyline"):
        for pair in line.attrib["points"].split():
            x, y = map(float, pair.split(","))
            assert 0 <= x <= WIDTH and 0 <= y <= HEIGHT
    assert len(root.findall("./g/polyline")) <= MAX_LINES


def test_names_are_text_not_markup() -> None:
    chart = make_chart("<script>x</script>", "</svg><img src=x onerror=y>", '"><b>', [Series("<i>&", ((0, 1), (1, 2)))])
    drawn = draw(chart)
    assert "<script>" not in drawn and "<img" not in drawn and "<b>" not in drawn and "<i>" not in drawn
    svg = "<svg viewBox" + drawn.partition("<svg viewBox")[2].partition("</svg>")[0] + "</svg>"
    assert ElementTree.fromstring(svg).findtext("title") == "<script>x</script>"
    assert "style=" not in drawn and "onload" not in drawn
    assert (TEMPLATES / "chart.html").exists()


@given(NUMBERS, NUMBERS)
def test_marks_hold_the_numbers_and_are_few(one: float, other: float) -> None:
    low, high = sorted((one, other))
    marks = make_marks(low, high)
    assert 2 <= len(marks) <= 14 and marks == sorted(marks)
    room = max(abs(low), abs(high)) * 1e-8
    assert marks[0] <= low + room and marks[-1] >= high - room


def test_marks_are_round() -> None:
    assert make_marks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert make_marks(0.71, 0.93) == [0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert make_marks(-3, 0, whole=True) == [-3, -2, -1, 0]


def test_tables_are_read_as_dvc_reads_them() -> None:
    csv, tsv = b"epoch,loss,acc\n0,1.5,0.1\n1,x,0.2\n2,1e-1,0.3\n", b"step\tloss\n0\t1\n"
    assert make_points(PlotLine("f", "epoch", "loss"), t := parse_table("a.csv", csv), t) == ("loss", [(0, 1.5), (2, 0.1)])
    assert make_points(PlotLine("f"), t, t) == ("acc", [(0, 0.1), (1, 0.2), (2, 0.3)]), "the last column over the number of the row"
    assert parse_table("a.tsv", tsv) == [{"step": "0", "loss": "1"}]
    assert parse_table("a.json", b'{"train": [{"loss": 1, "n": 2}]}') == parse_table("a.yaml", b"train:\n- {loss: 1, n: 2}\n") == [{"loss": 1, "n": 2}]
    for path, content in (("a.json", b"{}"), ("a.json", b"["), ("a.csv", b"\xff"), ("a.json", b"[1]")):
        with pytest.raises(RecipeError):
            parse_table(path, content)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["t.csv", "t.tsv", "t.json", "t.yaml"]), st.text(max_size=5), st.text(max_size=5))
def test_any_table_gives_points_or_an_error(content: bytes, path: str, x: str, y: str) -> None:
    try:
        table = parse_table(path, content)
    except RecipeError:
        return
    make_points(PlotLine(path, x, y), table, table)
