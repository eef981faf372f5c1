"""Receptive fields of the retina's channels by the rank of the error that reaches them, and their indices (R1)."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from bench.records.store import Record
from bench.stats import mean_interval
from replication.claims.r1 import INDICES
from replication.receptive_fields import KINDS, image_of, numbers_of
from replication.results import Cell, Results

SHOWN = 8
"""Largest number of channels whose fields are drawn."""
GREYS = ("0.15", "0.55", "0.85", "1.0")
"""Colours of the kinds of channel."""
NOISE = {"centre_surround": 0.06, "orientation": 0.18}
"""Mean of each index over white noise."""
FLOOR: dict[str, Any] = {"linestyle": ":", "linewidth": 1, "color": "0.5"}
SIGNS: dict[str, dict[str, Any]] = {
    "one channel": {"marker": "o", "color": "0.45", "markersize": 2.5, "alpha": 0.7, "markeredgewidth": 0},
    "mean of a seed": {"marker": "|", "color": "black", "markersize": 5},
    "mean, 95% interval": {"marker": "D", "color": "C0", "markersize": 4},
    "dead channel": {"marker": "x", "color": "black", "markersize": 5},
}
"""Marks in the panels of the indices."""
TICKS = (0, 0.5, 1), ("0", ".5", "1")
ROW = 0.55
"""Inches per setting."""
HEAD, FOOT = 0.5, 0.55
"""Inches above the settings, for the two title lines, and below them."""


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """A row per setting: fields of one run (that with the most live channels), both indices of every channel, kinds.

    Channels are points, a line of them per seed.
    """
    cells = [cell for cell in results.cells if cell.ok]
    channels = channels_of(cells)
    shown = min(SHOWN, len(channels["channel"].unique())) or 1
    height = HEAD + ROW * max(len(cells), 1) + FOOT
    figure = Figure(figsize=(ROW * shown + 5.6, height))
    fields, *strips, kinds = figure.subplots(1, 4, sharey=True, width_ratios=(ROW * shown, 2.0, 2.0, 1.6))
    figure.subplots_adjust(wspace=0.08, left=0, right=1, bottom=FOOT / height, top=1 - HEAD / height)
    for row, cell in enumerate(cells):
        _fields(fields, row, cell)
        here = channels[channels["setting"] == cell.label]
        for ax, index in zip(strips, INDICES, strict=True):
            _strip(ax, row, here, index)
        _shares(kinds, row, here)
    fields.set(xlim=(-0.5, shown - 0.5), ylim=(len(cells) - 0.5, -0.5), xticks=[], title="fields of one run")
    fields.set_yticks(range(len(cells)), [*map(_row, cells)])
    for ax, (index, words) in zip(strips, INDICES.items(), strict=True):
        ax.axvline(NOISE[index], zorder=0, **FLOOR)
        ax.set(xlabel=words, xlim=(-0.03, 1))
        ax.set_xticks(*TICKS)
    kinds.set(xlabel="share of channels", xlim=(0, 1))
    kinds.set_xticks(*TICKS)
    signs: list[Artist] = [Line2D([], [], linestyle="", label=label, **sign) for label, sign in SIGNS.items()]
    signs.append(Line2D([], [], label="white noise", **FLOOR))
    signs += [
        Patch(facecolor=grey, edgecolor="0.3", linewidth=0.5, label=kind)
        for kind, grey in zip(KINDS, GREYS, strict=True)
    ]
    kinds.legend(handles=signs, frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    for ax in (fields, *strips, kinds):
        ax.tick_params(axis="y", length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
    fields.spines["bottom"].set_visible(False)
    return figure, channels


def channels_of(cells: list[Cell]) -> pd.DataFrame:
    """One row per channel of every trained run; dead channels have no numbers."""
    rows = [
        {
            "setting": cell.label,
            "rule": cell.config.rule,
            "rank": cell.config.rank,
            "seed": seed,
            "accuracy": record["final"]["accuracy"],
            "channel": channel,
            **(asdict(numbers) if numbers else {"kind": "dead"}),
        }
        for cell in cells
        for seed, record in sorted(cell.records.items())
        if record["status"] == "ok"
        for channel, numbers in enumerate(numbers_of(record))
    ]
    run = ["setting", "rule", "rank", "seed", "accuracy", "channel"]
    return pd.DataFrame(rows, columns=[*run, *INDICES, "kind", "explained", "agreement"])


def _liveliest(cell: Cell) -> Record:
    """The run with the most live channels, of the first seed among several."""
    ended = (record for _, record in sorted(cell.records.items()) if record["status"] == "ok")
    return max(ended, key=lambda record: sum(map(bool, numbers_of(record))))


def _row(cell: Cell) -> str:
    return f"{cell.label}, seed {_liveliest(cell)['config']['seed']}"


def _fields(ax: Axes, row: int, cell: Cell) -> None:
    """Each field divided by its largest absolute value, grey at zero; a dead channel is crossed out."""
    record = _liveliest(cell)
    found = zip(record["trained"]["receptive_fields"]["ascent"], numbers_of(record), strict=True)
    for column, (pixels, numbers) in enumerate(list(found)[:SHOWN]):
        extent = (column - 0.46, column + 0.46, row + 0.46, row - 0.46)
        ax.imshow(image_of(pixels), cmap="gray", vmin=-1000, vmax=1000, extent=extent, aspect="auto")
        if numbers is None:
            ax.plot(column, row, linestyle="", **SIGNS["dead channel"])


def _strip(ax: Axes, row: int, channels: pd.DataFrame, index: str) -> None:
    """A point per channel, a tick per seed mean, and the interval of these means as a bar."""
    channel, seed, mean, _ = SIGNS.values()
    live = channels.dropna(subset=index)
    if live.empty:
        return
    seeds = live.groupby("seed")[index]
    offsets = np.linspace(-0.3, 0.3, len(seeds)) if len(seeds) > 1 else [0.0]
    for offset, (_, values) in zip(offsets, seeds, strict=True):
        ax.plot(values, np.full(len(values), row + offset), linestyle="", **channel)
        ax.plot(values.mean(), row + offset, **seed)
    interval = mean_interval(seeds.mean())
    if interval.n > 1:
        ax.plot([interval.low, interval.high], [row, row], color="C0", linewidth=2, alpha=0.7)
    ax.plot(interval.estimate, row, **mean)


def _shares(ax: Axes, row: int, channels: pd.DataFrame) -> None:
    """Shares of the kinds among the channels of all seeds."""
    left = 0.0
    for kind, grey in zip(KINDS, GREYS, strict=True):
        share = float((channels["kind"] == kind).mean()) if len(channels) else 0.0
        ax.barh(row, share, left=left, height=0.6, color=grey, edgecolor="0.3", linewidth=0.5)
        left += share


FIGURE = draw
