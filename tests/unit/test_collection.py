"""What collection chooses: never what is held, dependents first, least recently used first, and the budget met if that is possible."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubdock.core.collection import Item, Selection, describe, matches_pin, select, sum_sizes

NOW = 1_000_000.0


def item(key: str, size: int = 10, age: float = 1000.0, kind: str = "image", **more: object) -> Item:
    return Item(kind, key, size, NOW - age, **more)  # type: ignore[arg-type]


def choose(*items: Item, **more: float | None) -> list[str]:
    return [removal.item.key for removal in select(items, now=NOW, **more).removals]  # type: ignore[arg-type]


def test_nothing_goes_without_a_limit() -> None:
    assert choose(item("a"), item("b", age=1e9)) == []


def test_the_least_recently_used_goes_first_and_no_more_than_needed() -> None:
    items = (item("new", age=100), item("old", age=300), item("middle", age=200))
    assert choose(*items, budget=30) == []
    assert choose(*items, budget=29) == ["old"]
    assert choose(*items, budget=11) == ["old", "middle"]
    assert choose(*items, budget=0) == ["old", "middle", "new"]


def test_what_is_held_stays_and_so_does_all_it_stands_on() -> None:
    base, environment = item("b", kind="base"), item("e", kind="environment", needs=(("base", "b"),))
    running = item("i", held="container x", needs=(("environment", "e"),))
    other = item("o", needs=(("environment", "e"),))
    selection = select((base, environment, running, other), now=NOW, budget=0)
    assert [removal.item.key for removal in selection.removals] == ["o"]
    assert {kept.key: kept.held for kept in selection.kept} == {
        "i": "container x", "e": "container x (needed by image i)", "b": "container x (needed by image i) (needed by environment e)",
    }  # fmt: skip
    assert (selection.total, selection.freed, selection.left, selection.over) == (40, 10, 30, 30)


def test_an_environment_outlives_its_images() -> None:
    environment = item("e", kind="environment", age=9000)
    items = (environment, item("old", age=500, needs=(("environment", "e"),)), item("new", age=100, needs=(("environment", "e"),)), item("stranger", age=200))
    assert choose(*items, budget=0) == ["old", "stranger", "new", "e"]
    assert choose(*items, max_age=150) == ["old", "stranger"]


def test_what_was_used_a_moment_ago_stays() -> None:
    assert choose(item("now", age=599), item("then", age=601), budget=0, grace=600) == ["then"]
    assert choose(item("e", age=9000), item("i", age=5, needs=(("image", "e"),)), budget=0, grace=600) == []


def test_what_is_due_goes_whatever_the_budget() -> None:
    selection = select((item("a"), item("trash", due="in the trash for 14 days", kind="workspace", counts=False)), now=NOW, budget=100)
    assert [(removal.item.key, removal.reason) for removal in selection.removals] == [("trash", "in the trash for 14 days")]
    assert (selection.total, selection.freed, selection.left) == (10, 10, 10)
    assert choose(item("trash", due="old", held="container x")) == []


def test_what_does_not_count_is_no_way_to_meet_the_budget() -> None:
    assert choose(item("a"), item("w", counts=False, age=9e5), budget=0) == ["a"]


def test_reasons_are_said() -> None:
    selection = select((item("a", age=3 * 86400), item("b", age=50 * 3600)), now=NOW, max_age=60 * 3600, budget=0)
    assert [removal.reason for removal in selection.removals] == ["not used for 3 days", "least recently used, 2 days ago"]


def test_items_that_need_each_other_end_no_run() -> None:
    assert choose(item("a", needs=(("image", "b"),)), item("b", needs=(("image", "a"),)), budget=0) == []


def test_words() -> None:
    assert describe(item("f" * 64, name="digits main")) == "image ffffffffffff (digits main)"
    assert sum_sizes([item("a"), item("b"), item("c", kind="data")]) == {"image": 20, "data": 10}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("github.com/team/digits", True), ("github.com/team/*", True), ("github.com/team/digits@main", True), ("github.com/*@ma*", True), ("*", True),
        ("github.com/team", False), ("github.com/team/digits@dev", False), ("digits", False),
    ],
)  # fmt: skip
def test_pins(pattern: str, expected: bool) -> None:
    assert matches_pin("github.com/team/digits", "main", [pattern]) is expected
    assert not matches_pin("github.com/team/digits", "main", [])


# --- for every inventory ---

KEYS = "abcdefgh"
ITEMS = st.dictionaries(
    st.sampled_from(KEYS),
    st.builds(
        Item, st.just("image"), st.just(""), st.integers(0, 50), st.floats(NOW - 10_000, NOW), held=st.sampled_from(["", "", "", "container"]),
        due=st.sampled_from(["", "", "due"]), needs=st.lists(st.sampled_from(KEYS), max_size=2).map(lambda keys: tuple(("image", key) for key in keys)),
        counts=st.booleans(),
    ),
).map(lambda found: [replace(item, key=key, needs=tuple(need for need in item.needs if need[1] > key)) for key, item in found.items()])  # fmt: skip


def effective(items: list[Item]) -> dict[str, tuple[float, bool]]:
    """Return by key the last use, and whether it is held, of an item and of all that stands on it."""
    found = {item.key: (item.used, bool(item.held)) for item in items}
    for _ in items:
        for item in items:
            for _, need in item.needs:
                if need in found:
                    found[need] = (max(found[need][0], found[item.key][0]), found[need][1] or found[item.key][1])
    return found


@given(ITEMS, st.none() | st.integers(0, 200), st.sampled_from([0.0, 500.0, 5000.0]), st.sampled_from([0.0, 600.0]))
def test_every_choice_is_right(items: list[Item], budget: int | None, max_age: float, grace: float) -> None:
    selection: Selection = select(items, now=NOW, budget=budget, max_age=max_age, grace=grace)
    gone = [removal.item.key for removal in selection.removals]
    known, found = {item.key: item for item in items}, effective(items)
    assert len(gone) == len(set(gone)) and {item.key for item in selection.kept} == set(known) - set(gone)
    for number, key in enumerate(gone):
        assert not found[key][1], "held"
        assert NOW - found[key][0] >= grace, "in use a moment ago"
        standing = {item.key for item in items if ("image", key) in item.needs}
        assert standing <= set(gone[:number]), "what stands on it goes before it"
    may_go = {key for key, (used, held) in found.items() if not held and NOW - used >= grace}
    if budget is not None and selection.left > budget:
        assert not any(known[key].counts for key in may_go - set(gone) if not any(("image", key) in known[other].needs for other in set(known) - set(gone)))
    for_budget = [removal.item.key for removal in selection.removals if removal.reason.startswith("least")]
    for earlier, later in pairwise(for_budget):
        assert found[earlier][0] <= found[later][0]
    if for_budget and budget is not None:
        last = known[for_budget[-1]]
        assert selection.left + last.size > budget, "one too many"
    if budget is None and not max_age:
        assert all(known[key].due for key in gone)
