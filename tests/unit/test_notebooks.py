"""Notebooks compared cell by cell, and pages of their outputs in which nothing runs."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubdock.core.errors import HubDockError, RecipeError
from hubdock.core.notebooks import MAX_LINES, diff_lines, make_outputs_page, match_cells, parse_notebook, read_cells
from hubdock.drivers.cells import diff_notebooks
from hubdock.engine.notebooks import EMPTY

HI = [{"output_type": "stream", "name": "stdout", "text": "hi"}]
HO = [{"output_type": "stream", "name": "stdout", "text": ["h", "o"]}]


def make_notebook(*cells: tuple[str, str, list[Any]]) -> bytes:
    made = [{"cell_type": kind, "source": source, "metadata": {}, **({"outputs": outputs, "execution_count": 1} if kind == "code" else {})} for kind, source, outputs in cells]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": made}).encode()


def test_cells_are_matched_as_nbdime_matches_them() -> None:
    before = make_notebook(("markdown", "# T", []), ("code", "import os\nx = 1\nprint(x)", HI), ("code", "y = 2", HI), ("code", "gone", []))
    after = make_notebook(("markdown", "# T", []), ("markdown", "new", []), ("code", "import os\nx = 2\nprint(x)", HO), ("code", "y = 2", HI))
    found = diff_notebooks("a.ipynb", before, after)
    assert [(one.change, one.kind, one.before, one.after, one.outputs) for one in found] == [
        ("same", "markdown", 0, 0, ""), ("added", "markdown", None, 1, ""), ("changed", "code", 1, 2, "both"), ("same", "code", 2, 3, "same"), ("removed", "code", 3, None, ""),
    ]  # fmt: skip
    assert found[2].lines == ((" ", "import os"), ("-", "x = 1"), ("+", "x = 2"), (" ", "print(x)"))


def test_only_the_outputs_may_differ_and_a_notebook_may_be_new() -> None:
    (one,) = diff_notebooks("a.ipynb", make_notebook(("code", "x", HI)), make_notebook(("code", "x", HO)))
    assert (one.change, one.outputs) == ("changed", "both")
    (one,) = diff_notebooks("a.ipynb", EMPTY, make_notebook(("code", "x", HI)))
    assert (one.change, one.outputs, one.lines) == ("added", "after", (("+", "x"),))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"nbformat": 3, "worksheets": []}', b"\xff", b"[" * 100_000, b'{"nbformat": 4, "cells": {}}'])
def test_what_is_no_notebook_is_told_with_its_file(content: bytes) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_notebook("a.ipynb", content)
    assert caught.value.file == "a.ipynb"


def test_the_process_tells_what_is_no_notebook() -> None:
    with pytest.raises(RecipeError, match="not valid JSON") as caught:
        diff_notebooks("a.ipynb", EMPTY, b"{")
    assert caught.value.file == "a.ipynb"


def test_a_huge_notebook_ends_soon_and_in_an_answer() -> None:
    many = make_notebook(*(("code", f"x = {n}\n" * 300, []) for n in range(600)))
    other = make_notebook(*(("code", f"y = {n * 7}\n" * 300, []) for n in range(600)))
    try:
        found = diff_notebooks("a.ipynb", many, other, timeout=3.0)
    except HubDockError as error:
        assert error.status == 503
    else:
        assert all(len(one.lines) <= MAX_LINES + 1 for one in found)


ODD = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["cell_type", "source", "outputs", "data", "text", "output_type", "text/html", "image/png"]), inner, max_size=4), max_leaves=10)


@settings(max_examples=200, deadline=None)
@given(st.lists(ODD, max_size=4))
def test_odd_cells_are_read_and_shown(cells: list[Any]) -> None:
    notebook = parse_notebook("a", json.dumps({"nbformat": 4, "cells": cells}).encode())
    assert len(read_cells(notebook)) == len(cells)
    for number in range(len(cells) + 1):
        make_outputs_page(notebook, number, "x")


@given(st.text(), st.text())
def test_a_difference_of_lines_holds_both_sides(before: str, after: str) -> None:
    lines = diff_lines(before, after)
    assert all(mark in "+- …" for mark, _ in lines)


def test_operations_that_do_not_fit_are_refused() -> None:
    assert match_cells([], 2, 2) == [(0, 0), (1, 1)]
    with pytest.raises(ValueError, match="do not fit"):
        match_cells([], 2, 3)


# --- outputs ---


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def show(data: dict[str, Any]) -> str:
    return make_outputs_page({"cells": [{"outputs": [{"output_type": "display_data", "data": data}]}]}, 0, "<b>")


def test_what_could_act_is_no_element_of_an_outputs_page() -> None:
    hostile = (
        "<script>top.x=1</script><scRIPT src=//evil></ScRipt ><link rel=preconnect href=//evil><META http-equiv=refresh content='0;url=//evil'><base href=//evil>"
        "<iframe src=//evil></iframe><form action=//evil><object data=//evil><embed src=//evil><table><tr><td>kept</td></tr></table><script>unclosed"
    )
    tags = {tag for tag, _ in Tags(show({"text/html": hostile})).found}
    assert tags == {"html", "head", "meta", "title", "style", "body", "div", "em", "table", "tr", "td"}
    assert Tags(show({"text/html": hostile})).found.count(("meta", {"charset": "utf-8"})) == 1


def test_pictures_are_data_and_everything_else_is_text() -> None:
    tags = Tags(show({"image/png": "iVBORw0KGgo=\n", "text/plain": "<Figure>"})).found
    assert ("img", {"alt": "image/png", "src": "data:image/png;base64,iVBORw0KGgo="}) in tags
    assert not any(tag == "img" for tag, _ in Tags(show({"image/png": '"><img onerror=x>', "text/plain": "t"})).found)
    svg = show({"image/svg+xml": "<svg onload=x><script>y</script></svg>"})
    assert "onload" not in svg and "data:image/svg+xml;base64," in svg
    for media in ("text/plain", "text/markdown", "text/latex", "application/javascript"):
        page = show({media: "<img src=x onerror=y>[a](javascript:b)"})
        assert "&lt;img src=x onerror=y&gt;" in page and not any(tag in {"img", "a"} for tag, _ in Tags(page).found)
    trace = make_outputs_page({"cells": [{"outputs": [{"output_type": "error", "traceback": ["\x1b[31mboom\x1b[0m <b>"]}]}]}, 0, "x")
    assert "boom &lt;b&gt;" in trace and "\x1b" not in trace
