"""What a benchmark found: medians over interleaved rounds, as a table and as JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One figure. ``value`` is held to ``goal``; ``seconds`` are the absolute times behind it, for people."""

    name: str
    value: float
    goal: float
    better: str
    rounds: int
    seconds: str = ""

    @property
    def met(self) -> bool:
        return self.value <= self.goal if self.better == "lower" else self.value >= self.goal


def median(values: list[float]) -> float:
    return statistics.median(values)


def describe(**series: list[float]) -> str:
    """Return the medians and ranges of named series of seconds."""
    return "; ".join(f"{name.replace('_', ' ')} {median(values):.2f} s ({min(values):.2f}-{max(values):.2f})" for name, values in series.items())


def write(figures: list[Figure], path: Path) -> bool:
    """Print the table, write the JSON, and return True if every goal is met."""
    table = Table("figure", "value", "goal", "", "rounds", "seconds: median (range)")
    for figure in figures:
        sign = "≤" if figure.better == "lower" else "≥"
        table.add_row(figure.name, f"{figure.value:.3g}", f"{sign} {figure.goal:g}", "met" if figure.met else "[bold red]missed", str(figure.rounds), figure.seconds)
    Console(width=180).print(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{name: value for name, value in asdict(figure).items() if name != "seconds"} for figure in figures]
    path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return all(figure.met for figure in figures)
