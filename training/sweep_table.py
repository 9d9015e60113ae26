"""The table of a sweep, for a terminal and as Markdown."""

from __future__ import annotations

from rich.table import Table

from ambient_policy.config import nearest
from training.sweep_summary import Paired, Summary

HEADER = ("metric", "arm", "mean [95 %]", "by seed", "minus baseline [95 %]", "step time")


def rows(summary: Summary) -> list[tuple[str, ...]]:
    """Give the table's rows, metric by metric; the best mean of a metric carries a star."""
    table: list[tuple[str, ...]] = []
    for name in summary.shown:
        direction = summary.directions.get(name)
        means = [arm.metrics[name].mean for arm in summary.arms]
        known = [mean for mean in means if mean is not None]
        best = None if direction is None or not known else (max if direction == "max" else min)(known)
        label = name if direction is None else f"{name} ({direction})"
        for arm, mean in zip(summary.arms, means, strict=True):
            metric = arm.metrics[name]
            percent = metric.trials is not None
            shown = _span(metric.mean, metric.low, metric.high, percent)
            if best is not None and mean == best:
                shown += " *"
            if percent:
                shown += f" {metric.successes}/{metric.trials}"
            seeds = ", ".join(_number(metric.by_seed.get(seed), percent) for seed in summary.seeds)
            ratio = "" if arm.time_ratio is None else f"{arm.time_ratio:.2f}"
            table.append((label, arm.name, shown, seeds, _versus(metric.versus_baseline, percent), ratio))
    return table


def _versus(paired: Paired | None, percent: bool) -> str:
    if paired is None:
        return ""
    text = _span(paired.mean, paired.low, paired.high, percent, sign=True)
    if paired.p_value is not None:
        text += f" p {paired.p_value:.2g} (+{paired.only_arm} -{paired.only_baseline})"
    return text


def _span(
    mean: float | None, low: float | None, high: float | None, percent: bool, sign: bool = False
) -> str:
    text = _number(mean, percent, sign)
    if low is None or high is None:
        return text
    return f"{text} [{_number(low, percent, sign)}, {_number(high, percent, sign)}]"


def _number(value: float | None, percent: bool, sign: bool = False) -> str:
    if value is None:
        return "-"
    plus = "+" if sign else ""
    return f"{100 * value:{plus}.1f}%" if percent else f"{value:{plus}.4g}"


def notes(summary: Summary) -> list[str]:
    """Say what a reader must know beside the table."""
    lines = [
        f"baseline: {summary.baseline}; *: best mean; step time: of training, as a ratio to the baseline"
    ]
    if any(m.trials is not None for arm in summary.arms for m in arm.metrics.values()):
        lines.append(
            "intervals of trials: Wilson, over the trials of all seeds together; p: McNemar, exact, over "
            "trials paired by seed and start (+ won by the arm alone, - by the baseline alone); neither "
            "counts how training seeds differ"
        )
    lines.append("intervals of other means, and of differences: Student's t over the seeds")
    for arm in summary.arms:
        if arm.missing:
            lines.append(f"{arm.name}: no result yet of seed {', '.join(map(str, arm.missing))}")
    found = {name for arm in summary.arms for name in arm.metrics}
    for name in summary.directions:
        if name not in found:
            lines.append(f"no run has the metric {name}; {nearest(name, found)}")
    if len(summary.run_commits) > 1:
        lines.append(f"the runs are of different commits: {', '.join(summary.run_commits)}")
    return lines


def as_table(summary: Summary) -> Table:
    """Lay the rows out for a terminal."""
    table = Table(title=summary.name)
    for column in HEADER:
        table.add_column(column, overflow="fold")
    last = ""
    for row in rows(summary):
        if last and row[0] != last:
            table.add_section()
        label = row[0] if row[0] != last else ""
        table.add_row(*(cell.replace("[", "\\[") for cell in (label, *row[1:])))
        last = row[0]
    return table


def as_markdown(summary: Summary) -> str:
    """Write the rows as a Markdown page."""

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("*", "\\*") for cell in cells) + " |"

    lines = [f"# {summary.name}", "", line(HEADER), "|" + " --- |" * len(HEADER)]
    lines += [line(row) for row in rows(summary)]
    lines += ["", *(f"- {note.replace('*', chr(92) + '*')}" for note in notes(summary)), ""]
    return "\n".join(lines)
