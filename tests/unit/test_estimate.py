"""Estimates on histories as they come about: within twice the time, whichever way, in eight of ten."""

from __future__ import annotations

import random

import pytest

from hubdock.core.estimate import Estimate, Sample, count_new, find_remaining, make_estimate

SIX = frozenset({"six==1.16"})
TEAM = frozenset({"xgboost==3.0.5", "seaborn==0.13.2", "transformers==4.56.2", "plotly==6.3.0"})


def replay(history: list[Sample], skip: int = 1, floor: float = 1.0) -> float:
    """Return the share of a history's tasks (the oldest first) whose time was told within twice from those before."""
    known, right = count_new(history), 0
    for number in range(skip, len(known)):
        told = make_estimate(known[number], known[:number][::-1], floor).seconds
        assert told is not None
        right += 0.5 <= told / known[number].seconds <= 2
    return right / (len(known) - skip)


def test_without_a_past_there_is_none() -> None:
    assert make_estimate(Sample(), []) == Estimate(None, 0)


def test_the_median_of_the_same_again() -> None:
    past = [Sample(seconds, "r", SIX) for seconds in (4.0, 5.0, 90.0)]
    assert make_estimate(Sample(0, "r", SIX), past) == Estimate(5.0, 3)


def test_what_is_like_it_counts_and_the_rest_does_not() -> None:
    past = [Sample(6.0, "small", SIX), Sample(80.0, "large", TEAM), Sample(7.0, "small", SIX), Sample(100.0, "large", TEAM)]
    assert make_estimate(Sample(0, "large", TEAM - {"plotly==6.3.0"} | {"plotly==6.4.0"}), past) == Estimate(90.0, 2)
    assert make_estimate(Sample(0, "other", SIX), past) == Estimate(6.5, 2)


def test_a_first_download_takes_longer_than_what_is_in_the_cache() -> None:
    past = count_new([Sample(100.0, "r", TEAM), Sample(9.0, "r", TEAM), Sample(11.0, "r", TEAM)])[::-1]
    assert [sample.new for sample in past] == [0, 0, 4]
    assert make_estimate(Sample(0, "s", TEAM, new=0), past) == Estimate(10.0, 2)
    assert make_estimate(Sample(0, "s", frozenset({"a==1", "b==1", "c==1", "d==1"}), new=4), past).seconds == 100.0


@pytest.mark.parametrize(
    ("work", "seconds"),
    [(50e6, 4.0), (80e6, 4.0), (10e9, 400.0), (1e3, 2.0)],
)
def test_data_takes_as_long_as_its_bytes(work: float, seconds: float) -> None:
    past = [Sample(2.0, "r", work=1e6), Sample(4.0, "r", work=60e6), Sample(41.0, "r", work=1e9)]
    told = make_estimate(Sample(0, "r", work=work), past, floor=8e6).seconds
    assert told is not None and seconds / 2 <= told <= seconds * 2


def test_one_sample_of_another_size() -> None:
    told = make_estimate(Sample(0, "r", work=64e9), [Sample(3.0, "r", work=5e6)], floor=8e6).seconds
    assert told is not None and told > 100


def test_the_newest_and_one_s_own_repository_come_first() -> None:
    past = [Sample(2.0, "mine")] * 4 + [Sample(9.0, "mine")] * 4 + [Sample(30.0, "theirs")] * 20
    assert make_estimate(Sample(0, "mine"), past) == Estimate(2.0, 7)


@pytest.mark.parametrize("seed", range(5))
def test_a_team_s_months(seed: int) -> None:
    """Three projects, each with its packages; now and then one more, which is downloaded. Times vary by a third."""
    chance = random.Random(seed)
    projects = {f"p{n}": {f"q{n}-{i}==1" for i in range(size)} for n, size in enumerate((2, 8, 30))}
    seen: set[str] = set()
    history = []
    for number in range(60):
        repo = chance.choice(sorted(projects))
        if chance.random() < 0.3:
            projects[repo].add(f"new{number}==1")
        lines = frozenset(projects[repo])
        seconds = 4 + 0.3 * len(lines) + 2.5 * len(lines - seen)
        seen |= lines
        history.append(Sample(seconds * chance.uniform(0.75, 1.35), repo, lines))
    assert replay(history, skip=8) >= 0.8


@pytest.mark.parametrize("seed", range(5))
def test_data_of_every_size(seed: int) -> None:
    chance = random.Random(seed)
    history = []
    for _ in range(40):
        work = 10 ** chance.uniform(4, 10.5)
        history.append(Sample((2 + work / 50e6) * chance.uniform(0.75, 1.35), "r", work=work))
    assert replay(history, skip=8, floor=8e6) >= 0.8


def test_what_runs_already_takes_the_rest() -> None:
    assert find_remaining(Estimate(60.0, 3), 40.0) == Estimate(20.0, 3)
    assert find_remaining(Estimate(60.0, 3), 400.0) == Estimate(12.0, 3)
    assert find_remaining(Estimate(), 400.0) == Estimate()
