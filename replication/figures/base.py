"""What the figures share: the style, a measure over rank with every seed shown, and files that stay the same."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.stats import mean_interval
from replication.results import Cell, Results

mpl.use("agg")
STYLE = {"svg.hashsalt": "bench", "svg.fonttype": "none"}
sns.set_theme(context="paper", style="ticks", palette="colorblind", rc=STYLE)

MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES = ("-", "--", ":", "-.")


def seeds_of(cells: Sequence[Cell]) -> pd.DataFrame:
    """A row a run: setting, rule, rank, seed, accuracy in percent, status."""
    rows = [
        {
            "setting": cell.label,
            "rule": cell.config.rule,
            "rank": cell.rank,
            "seed": seed,
            "accuracy": accuracy,
            "status": cell.records[seed]["status"],
        }
        for cell in cells
        for seed, accuracy in cell.accuracy.items()
    ]
    return pd.DataFrame(rows, columns=["setting", "rule", "rank", "seed", "accuracy", "status"])


def over_rank(ax: Axes, runs: pd.DataFrame, measure: str, label: str, style: int) -> None:
    """A column of `runs` over their rank: each seed a point, the means joined."""
    runs = runs.dropna(subset="rank").sort_values("rank")
    if runs.empty:
        return
    color = sns.color_palette()[style]
    means = runs.groupby("rank")[measure].mean()
    ax.plot(means.index, means, DASHES[style % 4], marker=MARKERS[style], color=color, label=label, zorder=3)
    ax.scatter(runs["rank"], runs[measure], s=8, color=color, alpha=0.5, linewidths=0, zorder=2)


def rank_axis(ax: Axes, cells: Sequence[Cell]) -> None:
    """A logarithmic axis with a tick at each rank of the cells."""
    ranks = sorted({cell.rank for cell in cells if cell.rank})
    ax.set_xscale("log", base=2)
    ax.set_xticks(ranks, [str(rank) for rank in ranks])
    ax.set_xlim(ranks[0] / 1.2, ranks[-1] * 1.2)
    ax.minorticks_off()


def over_training(ax: Axes, runs: pd.DataFrame, x: str, y: str) -> None:
    """A column of `runs` over another, by setting: a thin line a seed, the mean of each epoch with marks."""
    for style, (setting, here) in enumerate(runs.groupby("setting", sort=False)):
        look = {"color": sns.color_palette()[style % 10], "linestyle": DASHES[style % 4]}
        for _, seed in here.groupby("seed"):
            ax.plot(seed[x], seed[y], linewidth=0.5, alpha=0.5, **look)
        mean = here.dropna(subset=y).groupby("epoch")[[x, y] if x != "epoch" else [y]].mean().reset_index()
        if len(mean):
            marker = MARKERS[style % len(MARKERS)]
            ax.plot(mean[x], mean[y], marker=marker, markersize=3, label=setting, **look)


def by_setting(ax: Axes, results: Results) -> None:
    """Test accuracy, a row a setting: each seed a point, the mean with its 95% interval; bp as a line through all."""
    recorded = [cell for cell in results.cells if cell.records]
    for row, cell in enumerate(recorded):
        values = list(cell.accuracy.values())
        interval = mean_interval(values)
        ax.plot(values, [row] * len(values), "o", color="0.45", markersize=4, alpha=0.6, markeredgewidth=0)
        if interval.n > 1:
            ax.plot([interval.low, interval.high], [row, row], color="C0", linewidth=1.5)
        ax.plot(interval.estimate, row, "|", color="C0", markersize=11, markeredgewidth=2)
        if cell.label == "bp":
            ax.axvline(interval.estimate, color="0.25", linestyle=":", linewidth=1, zorder=0)
    ax.set_yticks(range(len(recorded)), [cell.label for cell in recorded])
    ax.invert_yaxis()
    ax.set(xlabel="test accuracy (%)")
    ax.grid(axis="y", linewidth=0.3)


def settings_alone(results: Results) -> tuple[Figure, pd.DataFrame]:
    """A figure of test accuracy by setting and of nothing else."""
    rows = sum(bool(cell.records) for cell in results.cells)
    figure = Figure(figsize=(5.6, 0.8 + 0.28 * rows), layout="constrained")
    by_setting(figure.subplots(), results)
    return figure, seeds_of(results.cells)


def level(ax: Axes, values: Iterable[float], label: str, dashes: str, color: str = "0.25") -> None:
    """A setting without a rank: its mean as a line, its 95% interval as a band, its seeds as ticks at the edge."""
    values = list(values)
    if not values:
        return
    interval = mean_interval(values)
    ax.axhline(interval.estimate, linestyle=dashes, color=color, linewidth=1, label=label, zorder=1)
    if interval.n > 1:
        ax.axhspan(interval.low, interval.high, color=color, alpha=0.12, linewidth=0, zorder=0)
    edge = {"transform": ax.get_yaxis_transform(), "clip_on": False}
    ax.plot([1.0] * len(values), values, "_", color=color, markersize=7, **edge)


def save(figure: Figure, numbers: pd.DataFrame, path: Path) -> None:
    """Writes `path`.svg, `path`.png and the numbers behind them as `path`.csv; the same bytes for the same records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers.to_csv(path.with_suffix(".csv"), index=False, float_format="%.6g")
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None}, bbox_inches="tight")
    figure.savefig(path.with_suffix(".png"), metadata={"Software": None}, bbox_inches="tight", dpi=150)
