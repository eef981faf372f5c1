"""Strength of the teacher's modes over training: simulation, matrix ODE, and one-mode solution (L1)."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from replication.claims.l1 import RULES, one_mode
from replication.predictions import ode, simulated_modes, teacher_of, times
from replication.results import Results
from replication.theory import singular_values

PANELS = ("bp start=balanced", *RULES)
SHOWN = 4
"""Modes in a panel, spread over the teacher's."""


def draw(results: Results):
    """The first teacher's first seed, a panel a rule: points are the simulation, lines the theory, dots the teacher."""
    cells = [cell for cell in map(results.cell, PANELS) if cell and cell.ok]
    figure = Figure(figsize=(2.1 * max(len(cells), 1), 2.6))
    axes = figure.subplots(1, max(len(cells), 1), sharey=True, squeeze=False)[0]
    curves = []
    for ax, cell in zip(axes, cells, strict=False):
        seed, record = min((seed, record) for seed, record in cell.records.items() if record["status"] == "ok")
        steps, strengths = times(record), simulated_modes(record)
        solution = ode(record).modes
        single = one_mode(record) if "balanced" in cell.label else None
        modes = np.unique(np.linspace(0, strengths.shape[1] - 1, SHOWN).round().astype(int))
        for color, mode in zip(sns.color_palette(n_colors=SHOWN), modes, strict=False):
            ax.plot(steps, strengths[:, mode], "o", markersize=2.5, color=color, alpha=0.6)
            ax.plot(steps, solution[:, mode], "-", linewidth=1, color=color)
            if single is not None:
                ax.plot(steps, single[:, mode], "--", linewidth=1, color="0.2")
            ax.axhline(singular_values(teacher_of(record))[mode], linestyle=":", linewidth=0.7, color="0.6")
            curves.append(
                pd.DataFrame(
                    {
                        "setting": cell.label,
                        "dataset": cell.config.dataset,
                        "seed": seed,
                        "mode": mode + 1,
                        "step": steps,
                        "simulation": strengths[:, mode],
                        "matrix_ode": solution[:, mode],
                        "one_mode": single[:, mode] if single is not None else np.nan,
                    }
                )
            )
        ax.set(xscale="symlog", xlabel="step", title=cell.label)
        ax.set_xlim(0, steps[-1])
    axes[0].set_ylabel("mode strength")
    return figure, pd.concat(curves) if curves else pd.DataFrame()


FIGURE = draw
