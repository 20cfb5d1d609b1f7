"""How long a task will take, from how long tasks like it took: the median of those that are most like it, so that a person can follow it.

Alike are, for environments, the same packages, and as many of them that nobody here had installed before (what was is not downloaded again); for data the
bytes, for code the files; and among equals the same repository. Where nothing is of about the size, the time grows with it beyond what the quickest took.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

MOST = 7
NEAR = 0.5  # what is no further off than this beside the nearest counts too
_FAR = 2.0  # powers of two: four times as large is another size
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Sample:
    """One task: of the past, or the one in question. ``lines`` are its requirements, ``new`` how many of them were new here, ``work`` bytes or files to move."""

    seconds: float = 0.0
    repo: str = ""
    lines: frozenset[str] = frozenset()
    new: int = 0
    work: float = 0.0

    @property
    def names(self) -> frozenset[str]:
        """The packages: what stays when a version changes."""
        return frozenset(match[0].lower() if (match := _NAME.match(line)) else line for line in self.lines)


@dataclass(frozen=True)
class Estimate:
    """Seconds, from so many ``samples``; None and 0 without any."""

    seconds: float | None = None
    samples: int = 0


def count_new(samples: Iterable[Sample]) -> list[Sample]:
    """Return samples (the oldest first) with how many of their lines were in none before."""
    seen: set[str] = set()
    found = []
    for sample in samples:
        found.append(replace(sample, new=len(sample.lines - seen)))
        seen |= sample.lines
    return found


def make_estimate(wanted: Sample, past: Sequence[Sample], floor: float = 1.0) -> Estimate:
    """Return the estimate of a task from past ones (the newest first). ``floor`` is the work below which size makes no difference."""
    if not past:
        return Estimate()
    ranked = sorted(((find_distance(wanted, sample, floor), sample) for sample in past), key=lambda pair: pair[0])
    nearest = [sample for distance, sample in ranked if distance <= ranked[0][0] + NEAR][:MOST]
    fixed = min(sample.seconds for sample in past)
    seconds = statistics.median(_scale(wanted, sample, floor, fixed) for sample in nearest)
    return Estimate(round(seconds, 1), len(nearest))


def find_distance(wanted: Sample, sample: Sample, floor: float) -> float:
    """Return how unlike two tasks are: 0 for the same again, about 1 for twice the work or half of the packages."""
    either, both = wanted.names | sample.names, wanted.names & sample.names
    packages = 2 * (1 - len(both) / len(either)) if either else 0.0
    new = abs(math.log2((1 + wanted.new) / (1 + sample.new)))
    return packages + new + abs(_compare(wanted, sample, floor)) + (0 if wanted.repo == sample.repo else NEAR / 2)


def _compare(wanted: Sample, sample: Sample, floor: float) -> float:
    return math.log2((wanted.work + floor) / (sample.work + floor))


def _scale(wanted: Sample, sample: Sample, floor: float, fixed: float) -> float:
    """Return a sample's seconds, for a work of quite another size: less what every task takes, it grows with the work."""
    ratio = _compare(wanted, sample, floor)
    if abs(ratio) < _FAR:
        return sample.seconds
    rest = max(sample.seconds - 0.9 * fixed, 0.1 * sample.seconds)
    return sample.seconds - rest + rest * math.exp2(ratio)


def find_remaining(estimate: Estimate, elapsed: float) -> Estimate:
    """Return the estimate of a task that runs already. One that takes longer than expected will soon be done, as far as anybody knows."""
    if estimate.seconds is None:
        return estimate
    return Estimate(round(max(estimate.seconds - elapsed, 0.2 * estimate.seconds), 1), estimate.samples)
