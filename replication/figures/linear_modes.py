"""Strength of the teacher's modes over training: simulation, matrix ODE, and one-mode solution (L1)."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import LineStyleType

from bench.records.store import Record
from replication.claims._linear import teachers
from replication.claims.l1 import balanced_cells, cells_of_rules, one_mode
from replication.figures.base import MARKERS, legend
from replication.predictions import ode, simulated_modes, teacher_of, times
from replication.results import Cell, Results
from replication.theory import singular_values

SHOWN = 4
"""Number of modes in a panel, spread over the teacher's modes."""


def draw(results: Results) -> tuple[Figure, pd.DataFrame]:
    """First teacher, first seed, a panel per rule: points are the simulation, lines the theory, dots the teacher."""
    asked, (first, *_) = [*balanced_cells(results), *cells_of_rules(results)], teachers(results)
    cells = [cell for cell in asked if cell.config.dataset == first and cell.ok]
    panels = max(len(cells), 1)
    figure = Figure(figsize=(2.1 * panels + 1.6, 2.8), layout="constrained")
    axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    frames = []
    for ax, cell in zip(axes, cells, strict=False):
        record = next(record for _, record in sorted(cell.records.items()) if record["status"] == "ok")
        teacher = singular_values(teacher_of(record))
        frames.append(_curves(cell, record))
        for style, (mode, curve) in enumerate(frames[-1].groupby("mode")):
            color, shown = sns.color_palette()[style], curve[_spread(curve["step"])]
            dots = {"marker": MARKERS[style], "markersize": 3, "linestyle": "", "alpha": 0.7}
            ax.plot(shown["step"], shown["simulation"], color=color, label=f"simulation, mode {mode}", **dots)
            ax.plot(curve["step"], curve["matrix_ode"], linewidth=1, color=color)
            if cell.options:
                ax.plot(curve["step"], curve["one_mode"], "--", linewidth=1, color="0.2")
            ax.axhline(teacher[mode - 1], linestyle=":", linewidth=0.7, color="0.6")
        ax.set(xscale="log", xlabel="step", title=cell.label)
        ax.set_xlim(times(record)[1] / 1.2, times(record)[-1])
    axes[0].set_ylabel("mode strength")
    numbers = pd.concat(frames) if frames else pd.DataFrame()
    if frames:
        figure.suptitle(f"{first}, seed {' and '.join(map(str, numbers['seed'].unique()))}")
    theory: dict[str, tuple[LineStyleType, str]] = {
        "matrix ODE": ("-", "0.3"),
        "one-mode solution": ("--", "0.2"),
        "the teacher's": (":", "0.6"),
    }
    lines = [Line2D([], [], linestyle=dash, color=color, label=name) for name, (dash, color) in theory.items()]
    legend(figure, axes, *lines)
    return figure, numbers


def _spread(steps: pd.Series) -> np.ndarray:
    """Whether a step is drawn as a point: about 25 of them, evenly spaced in the logarithm."""
    wanted = np.unique(np.searchsorted(steps, np.geomspace(steps.iloc[1], steps.iloc[-1], 25)))
    return np.isin(np.arange(len(steps)), wanted)


def _curves(cell: Cell, record: Record) -> pd.DataFrame:
    """The curves of the shown modes, to four digits: further digits depend on the number of threads."""
    simulation, solution = simulated_modes(record), ode(record).modes
    single = one_mode(record) if cell.options else np.full_like(simulation, np.nan)
    modes = np.unique(np.linspace(0, simulation.shape[1] - 1, SHOWN).round().astype(int))
    return pd.concat(
        pd.DataFrame(
            {
                "setting": cell.label,
                "dataset": cell.config.dataset,
                "seed": record["config"]["seed"],
                "mode": mode + 1,
                "step": times(record),
                "simulation": _four_digits(simulation[:, mode]),
                "matrix_ode": _four_digits(solution[:, mode]),
                "one_mode": _four_digits(single[:, mode]),
            }
        )
        for mode in modes
    )


def _four_digits(values: np.ndarray) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


FIGURE = draw
