"""The plots of branches: DVC's plots files as lines, and how each metric came about over the last commits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hubdock.core.charts import Chart, Series, make_chart
from hubdock.core.errors import HubDockError, RecipeError
from hubdock.core.metrics import Measured, Values, is_number, parse_values
from hubdock.core.pipeline import Plot
from hubdock.core.tables import Table, make_points, parse_table
from hubdock.core.tree import Tree
from hubdock.drivers.history import Change, History
from hubdock.engine.metrics import TOO_LARGE, find_blobs, read_bounded, read_declared

MAX_CHARTS = 12
COMMITS = 20
Named = tuple[str, str, Tree]
Notices = list[tuple[str, str]]


def draw_plots(mirror: History, sides: Sequence[Named], notices: Notices) -> tuple[Chart, ...]:
    """Return a chart for each plot that dvc.yaml declares on any branch: a line for each branch and column. ``sides`` are (branch, commit, tree)."""
    declared = {branch: read_declared(mirror, tree).plots for branch, _, tree in sides}
    names = list(dict.fromkeys(name for plots in declared.values() for name in plots))
    if len(names) > MAX_CHARTS:
        notices.append(("", f"{len(names)} plots are declared; the first {MAX_CHARTS} are drawn."))
    kept = names[:MAX_CHARTS]
    wanted = {branch: [plot for name, plot in plots.items() if name in kept] for branch, plots in declared.items()}
    read = _make_table_reader(mirror, sides, wanted, notices)
    charts = (_draw_plot(name, [(branch, declared[branch].get(name)) for branch, _, _ in sides], read, notices) for name in kept)
    return tuple(chart for chart in charts if chart is not None)


def _make_table_reader(mirror: History, sides: Sequence[Named], wanted: Mapping[str, Sequence[Plot]], notices: Notices) -> Callable[[str, str], Table]:
    """Fetch the files of all plots in one go, and return what reads one of them, each once: (branch, path) to its rows."""
    oids = {}
    for branch, _, tree in sides:
        paths = [path for plot in wanted[branch] for line in plot.lines for path in (line.file, line.x_file) if path]
        oids.update({(branch, path): oid for path, oid in find_blobs(tree, paths).items()})
    contents = read_bounded(mirror, list(oids.values()))
    tables: dict[tuple[str, str], Table] = {}

    def read(branch: str, path: str) -> Table:
        oid = oids.get((branch, path))
        if (path, oid or "") not in tables:
            tables[path, oid or ""] = []
            if oid is None:
                notices.append((branch, f"{path} is not in git, so it is not drawn."))
            elif oid not in contents:
                notices.append((branch, f"{path} {TOO_LARGE}"))
            else:
                try:
                    tables[path, oid] = parse_table(path, contents[oid])
                except RecipeError as error:
                    notices.append((branch, str(error)))
        return tables[path, oid or ""]

    return read


def _draw_plot(name: str, plots: Sequence[tuple[str, Plot | None]], read: Callable[[str, str], Table], notices: Notices) -> Chart | None:
    first = next(plot for _, plot in plots if plot is not None)
    series = []
    columns: set[str] = set()
    for style, (branch, plot) in enumerate(plots):
        for line in plot.lines if plot else ():
            table = read(branch, line.file)
            column, points = make_points(line, table, read(branch, line.x_file) if line.x_file else table)
            columns.add(column)
            label = f"{branch}: {column}" if plot and len(plot.lines) > 1 else branch
            series.append(Series(label, tuple(points), style))
            if table and not points:
                notices.append((branch, f"{line.file} has no numbers in {column or 'its columns'}{f' over {line.x}' if line.x else ''}, so it is not drawn."))
    x = next((line.x for line in first.lines), "")
    return make_chart(first.title or name, first.x_label or x or "row", first.y_label or ", ".join(sorted(columns)[:3]), series)


# --- history ---


def draw_history(mirror: History, sides: Sequence[Named], measured: Sequence[Measured], notices: Notices) -> tuple[Chart, ...]:
    """Return a chart for each metric that changed over the last `COMMITS` commits of a branch; none, and a notice, if the history can't be had."""
    keys = list(dict.fromkeys((file, name) for one in measured for file, values in one.metrics.items() for name, value in values.items() if is_number(value)))
    if not keys:
        return ()
    try:
        changes = read_changes(mirror, {branch: commit for branch, commit, _ in sides}, sorted({file for file, _ in keys}))
        values = read_values(mirror, changes)
    except HubDockError as error:
        notices.append(("", f"The history of the metrics is not shown. {error}"))
        return ()
    charts = []
    for file, name in keys:
        series = [Series(branch, tuple(_trace(changes[branch], values, file, name)), style) for style, (branch, _, _) in enumerate(sides)]
        if any(len({y for _, y in one.points}) > 1 for one in series):
            charts.append(make_chart(f"{name} ({file})", "changes before the newest of each branch", name, series, whole_x=True))
    if len(charts) > MAX_CHARTS:
        notices.append(("", f"{len(charts)} metrics have a history; the first {MAX_CHARTS} are drawn."))
    return tuple(chart for chart in charts[:MAX_CHARTS] if chart is not None)


def read_changes(mirror: History, heads: Mapping[str, str], files: Sequence[str]) -> dict[str, list[Change]]:
    """Return the last commits of each branch that changed these files, oldest first, fetched in one go."""
    mirror.ensure_branches(list(heads.values()))
    return {branch: mirror.list_changes(commit, files, COMMITS)[::-1] for branch, commit in heads.items()}


def read_values(mirror: History, changes: Mapping[str, Sequence[Change]]) -> dict[tuple[str, str], Values]:
    """Return the values of each (path, blob id) of these commits, fetched in one go. What can't be read is left out."""
    files = {(path, oid) for listed in changes.values() for change in listed for path, oid in change.files.items()}
    contents = read_bounded(mirror, [oid for _, oid in files])
    values = {}
    for path, oid in files:
        if oid in contents:
            try:
                values[path, oid], _ = parse_values(path, contents[oid], lists=False)
            except RecipeError:
                continue
    return values


def _trace(changes: Sequence[Change], values: Mapping[tuple[str, str], Values], file: str, name: str) -> list[tuple[float, float]]:
    """Return (number of the change, value) of one metric; the newest change is 0, those before it -1, -2 and so on."""
    touching = [change for change in changes if file in change.files]
    points = []
    for number, change in enumerate(touching):
        value = values.get((file, change.files[file]), {}).get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            points.append((float(number - len(touching) + 1), float(value)))
    return points
