"""The trials of `bench tune`: a figure per network, a panel per rule, and a section of the report."""

from collections.abc import Iterator
from itertools import accumulate
from math import ceil
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.sweeps.protocols import Choice, searches
from replication.figures.base import legend, save
from replication.tables import pipe_table

Searches = dict[str, Choice]
HEADING = """\
## Search for settings at scale `{scale}`

Each rule got the same number of trials, one seed each, judged by accuracy (%) on the validation split. The first round
spreads its trials over the same ranges for every rule; the second searches around the best of the first. The table
shows the best accuracy after 4 trials, 8, and so on: if it still rises at the end, more trials would help that rule.
The last column names chosen settings at an end of the tried range.
"""
STAGES = (4, 8, 12, 16)
WORDS = {"lr": "learning rate", "weight_decay": "decay", "feedback_rate": "feedback rate"}
COLUMNS = 4
SPAN = 8.0
"""Percentage points that a panel shows below the best trial; lower trials are drawn at its foot."""


def write(scale: str, folder: Path) -> None:
    """Writes the figure of each network that was tuned at a scale, and all of its trials as CSV."""
    for model, rules in _tuned(scale, folder):
        save(draw(rules), trials_of(rules), folder / scale / "figures" / f"tuning-{model}")


def section(scale: str, start: Path, folder: Path) -> str:
    """The section of the report, with links relative to the folder `start`; empty if nothing was tuned."""
    parts = []
    for model, rules in _tuned(scale, folder):
        figure = (folder / scale / "figures" / f"tuning-{model}.svg").relative_to(start)
        table = pipe_table(pd.DataFrame([_row(rule, found) for rule, found in rules.items()]))
        parts.append(f"`{model}`:\n\n{table}\n![Best trial so far, {model}]({figure})\n")
    return "\n".join([HEADING.format(scale=scale), *parts]) if parts else ""


def _tuned(scale: str, folder: Path) -> Iterator[tuple[str, Searches]]:
    """Each network that was tuned at a scale, with its searches by rule."""
    for path in sorted((folder / scale / "tuned").glob("*.json")):
        if rules := searches(path.stem, scale, folder):
            yield path.stem, rules


def trials_of(rules: Searches) -> pd.DataFrame:
    """A row per trial: rule, its number from 1, round, settings, accuracy and the best accuracy so far, in percent."""
    rows = [
        {"rule": rule, "trial": number, "round": 1} | trial | {"best": best}
        for rule, found in rules.items()
        for number, (trial, best) in enumerate(zip(found.trials, _best_so_far(found), strict=True), 1)
    ]
    return pd.DataFrame(rows, columns=["rule", "trial", "round", *WORDS, "accuracy", "best"])


def _best_so_far(found: Choice) -> list[float]:
    return list(accumulate((trial["accuracy"] for trial in found.trials), max))


def _row(rule: str, found: Choice) -> dict[str, str]:
    best = _best_so_far(found)
    return (
        {"rule": f"`{rule}`"}
        | {f"best of {n}": f"{best[n - 1]:.2f}" if n <= len(best) else "" for n in STAGES}
        | {word: f"{found.chosen[name]:g}" if name in found.chosen else "" for name, word in WORDS.items()}
        | {"at an end of the tried range": ", ".join(_ends(found))}
    )


def _ends(found: Choice) -> Iterator[str]:
    """The settings whose chosen value is the lowest or the highest that was tried."""
    for name, value in found.chosen.items():
        tried = [trial[name] for trial in found.trials]
        if value in (min(tried), max(tried)):
            yield f"{'lowest' if value == min(tried) else 'highest'} {WORDS[name]}"


def draw(rules: Searches) -> Figure:
    """Accuracy over trial number, a panel per rule: each trial, the best so far, and a line between rounds.

    The chosen trial is circled; one below the range of its panel is a triangle at its foot.
    """
    columns = min(COLUMNS, len(rules))
    rows = ceil(len(rules) / columns)
    figure = Figure(figsize=(2.0 + 2.0 * columns, 0.5 + 1.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False)
    numbers = trials_of(rules)
    for ax, (rule, found) in zip(axes.flat, rules.items(), strict=False):
        chosen = [found.chosen.items() <= trial.items() for trial in found.trials]
        _panel(ax, numbers[numbers["rule"] == rule], chosen.index(True) + 1)
        ax.set_title(rule)
    for ax in axes.flat[len(rules) :]:
        ax.remove()
    for ax in axes.flat[len(rules) - columns : len(rules)]:
        ax.tick_params(labelbottom=True)
    legend(figure, axes.flat[: len(rules)])
    figure.supxlabel("trial")
    figure.supylabel("validation accuracy (%)")
    return figure


def _panel(ax: Axes, trials: pd.DataFrame, chosen: int) -> None:
    top = trials["best"].max()
    foot = top - SPAN
    low = trials["accuracy"] < foot
    color = sns.color_palette()[0]
    dots: dict[str, Any] = {"color": "0.45", "linewidths": 0, "zorder": 3}
    best = trials["best"].clip(lower=foot)
    ax.scatter(trials["trial"][~low], trials["accuracy"][~low], s=12, label="one trial", **dots)
    if low.any():
        at_foot = [foot + 0.03 * SPAN] * low.sum()
        ax.scatter(trials["trial"][low], at_foot, s=14, marker="v", label="below the range", **dots)
    ax.step(trials["trial"], best, where="post", color=color, linewidth=1.2, zorder=2, label="best so far")
    ax.plot(chosen, top, "o", markersize=6, markerfacecolor="none", color=color, zorder=4, label="chosen")
    for last in trials.groupby("round")["trial"].max()[:-1]:
        ax.axvline(last + 0.5, color="0.6", linestyle=":", linewidth=0.8, zorder=0, label="second round from here")
    ax.set_ylim(foot, top + 0.1 * SPAN)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[4, 5, 10]))
    sns.despine(ax=ax)
