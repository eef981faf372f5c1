"""R1: the dimension of the error shapes early receptive fields."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf, log, nan
from statistics import fmean

import pandas as pd

from bench.data import sizes
from bench.records.store import Record
from bench.stats import compare, mean_interval, number
from bench.sweeps.experiments import alternative
from bench.training.length import examples
from replication.claims.base import Claim, Judgement, Part, above, bounded, floor_remark, listed, told
from replication.receptive_fields import KINDS, Numbers, numbers_of
from replication.results import Cell, Results
from replication.tables import Table, columns

FORMED = 0.25
"""Mean share of the variance of backpropagation's fields that the better model explains, below which they are noise.

For white noise it is 0.07."""
AGREE = 0.5
"""Correlation above which the two estimates show the same field."""
INDICES = {"centre_surround": "centre-surround index", "orientation": "orientation selectivity"}
WORDS = INDICES | {"explained": "explained by the better model", "agreement": "agreement of the two fields"}


class ReceptiveFields(Claim):
    title = "Retina, receptive fields"
    statement = (
        "The dimension of the error that reaches a retina shapes its receptive fields: centre-surround at a low rank r "
        "of the feedback, oriented at a high rank, without a bottleneck in the forward path."
    )
    asks = "whether the dimension of the error shapes early receptive fields"
    finds = (
        "The lower the rank of the error that reaches a retina, the more centre-surround and the less oriented its "
        "receptive fields are."
    )
    criterion = (
        "`ldfa` is constrained in B2, the first convolution after the retina. The centre-surround index is higher at "
        "the lowest rank than for `bp` and than at full rank, and orientation selectivity is higher at full rank than "
        "at the lowest (each paired 95% interval above 0). A run's index is the mean over the channels of the "
        "retina's last layer. The centre-surround index, from 0 to 1, is the share of a field's energy in its "
        "rotational average times 1 - |sum| / sum of absolute values of that average: the surround has to balance the "
        "centre. Orientation selectivity, from 0 to 1, is 1 minus the circular variance of the responses to gratings "
        "(`replication/receptive_fields.py`). Dead channels (active nowhere, "
        "or without a field) are excluded; channels that no model describes are included. A run that failed or has no "
        "live channel counts against the claim. The claim is not judged if the fields of `bp` are noise: the better "
        f"of a difference of Gaussians and a Gabor explains less than {FORMED:.0%} of their variance on average."
    )
    experiments = ("retina",)
    figure = "retina"
    paper = (("bp", None),)
    deviations = (
        "The paper shows receptive fields but gives no numbers for them: the indices are ours. A channel's kind is "
        "that of the better model by the AIC, a difference of Gaussians (centre-surround) or a Gabor (oriented), and "
        "neither if it explains less than half of the variance or has no surround or no orientation. Every convolution "
        "is followed by batch norm. A field maximises its unit before the ReLU. At scale cpu the network has 8 "
        "channels instead of 32, a forward bottleneck of 1 instead of 4, and 128 hidden units in the classifier "
        "instead of 1024; an epoch is 5,000 images, redrawn from all images each time. Rates and decays are tuned for "
        "each rule (`ldfa` at full rank); the first round of trials stays within a factor of 2.5 of the authors' rate.",
    )

    def reads(self, results: Results) -> list[Cell]:
        return [results.cell("bp"), results.cell("ldfa", "full"), _lowest(results, "B2")]

    def judge(self, results: Results) -> Judgement:
        bp, full = results.cell("bp"), results.cell("ldfa", "full")
        one_layer, every_layer = (_lowest(results, constrained) for constrained in ("B2", ""))
        bottleneck = next(cell for cell in results.cells if "bottleneck" in cell.config.model_options)
        judged = bp, one_layer, full
        accuracy = {cell.label: compare(cell.accuracy, bp.accuracy) for cell in judged[1:]}
        losses = [f"{label} is {number(c.interval, '+.2f')}" for label, c in accuracy.items() if c.interval.n]
        accuracies = (f"In test accuracy, {' and '.join(losses)} points from bp.",) if losses else ()
        return Judgement(
            parts=(
                told(
                    _rises("centre_surround", one_layer, bp),
                    "receptive fields are no more centre-surround at the lowest rank than under backpropagation",
                    "receptive fields are more centre-surround at the lowest rank than under backpropagation",
                ),
                told(
                    _rises("centre_surround", one_layer, full),
                    "receptive fields are no more centre-surround at the lowest rank than at full rank",
                    "receptive fields are more centre-surround at the lowest rank than at full rank",
                ),
                told(
                    _rises("orientation", full, one_layer),
                    "receptive fields are no more oriented at full rank than at the lowest",
                    "receptive fields are more oriented at full rank than at the lowest",
                ),
            ),
            context=(
                _rises("centre_surround", full, bp),
                _rises("orientation", bp, one_layer),
                _rises("centre_surround", every_layer, bp),
                _rises("orientation", full, every_layer),
                _rises("centre_surround", bottleneck, bp),
                _rises("orientation", bp, bottleneck),
                above(f"test accuracy, {one_layer.label} minus bp", accuracy[one_layer.label]),
                *(_agree(cell) for cell in (bp, one_layer)),
            ),
            remark=floor_remark(results) or _noise_remark(results, bp),
            notes=(*_kinds((bp, one_layer, full, every_layer)), *accuracies, *_late(judged)),
        )

    def details(self, results: Results) -> Table | None:
        """A row per setting: means over live channels, with intervals over the n runs with any, and shares of kinds."""
        numbers, text = [], []
        for cell in (cell for cell in results.cells if cell.ok):
            runs, kinds = _runs(cell), _kinds_of(cell)
            live = [run for run in runs if any(run)]
            shares = {kind: kinds.count(kind) / len(kinds) if kinds else nan for kind in KINDS}
            row = {"setting": cell.label, "n": len(live)}
            words = {"setting": f"`{cell.label}`", "n": f"{len(live)} of {len(runs)}"}
            for number_of, head in WORDS.items():
                values = [fmean(getattr(channel, number_of) for channel in run if channel) for run in live]
                interval = mean_interval(values)
                row |= columns(number_of, interval)
                words[head] = number(interval)
            numbers.append(row | shares)
            text.append(words | {f"{kind} (%)": f"{100 * share:.0f}" for kind, share in shares.items()})
        return Table(pd.DataFrame(numbers), pd.DataFrame(text)) if numbers else None


def _lowest(results: Results, layer: str) -> Cell:
    """`ldfa` at the lowest rank of `layer`, or of all layers if empty."""
    cells = [cell for cell in results.cells if cell.rank and (cell.config.rank or "").rpartition("=")[0] == layer]
    return min(cells, key=lambda cell: cell.rank or 0)


def _means(cell: Cell, of: str, otherwise: float) -> dict[int, float]:
    """A number of each run by seed, averaged over its live channels; `otherwise` if the run failed or has none."""

    def mean(record: Record) -> float:
        live = [getattr(numbers, of) for numbers in numbers_of(record) if numbers]
        return fmean(live) if live else otherwise

    return cell.values(mean, otherwise)


def _runs(cell: Cell) -> list[list[Numbers | None]]:
    """The channels of each run that ended well."""
    return [numbers_of(record) for record in cell.records.values() if record["status"] == "ok"]


def _kinds_of(cell: Cell) -> list[str]:
    """The kind of each channel of all these runs."""
    return [channel.kind if channel else "dead" for run in _runs(cell) for channel in run]


def _rises(index: str, high: Cell, low: Cell) -> Part:
    """The part that says an index is larger in the cell `high`; a run without one counts against it."""
    comparison = compare(_means(high, index, 0.0), _means(low, index, 1.0), margin=0.0)
    part = above(f"{INDICES[index]}, {high.label} minus {low.label}", comparison, unit="")
    dead = sum(not any(run) for cell in (high, low) for run in _runs(cell))
    return replace(part, number=f"{part.number}; {dead} without a live channel counted against it") if dead else part


def _kinds(cells: Sequence[Cell]) -> Iterator[str]:
    """A note on the number of channels of each kind."""
    counts = []
    for cell in cells:
        kinds = _kinds_of(cell)
        shown = [f"{kinds.count(kind)} {kind}" for kind in KINDS]
        counts += [f"{cell.label} {listed(shown)}"] if kinds else []
    if counts:
        yield f"Channels of each kind: {'; '.join(counts)}."


def _late(cells: Sequence[Cell]) -> Iterator[str]:
    """A note on the epochs until the training loss is below that of chance."""
    found = []
    for cell in cells:
        limit = log(sizes(cell.config.dataset).outputs)
        histories = [record["history"] for record in cell.records.values() if record["status"] == "ok"]
        firsts = sorted(next((e["epoch"] for e in h if e.get("loss", limit) < limit), inf) for h in histories)
        ends = dict.fromkeys("never" if first == inf else str(first) for first in (*firsts[:1], *firsts[-1:]))
        found += [f"{cell.label} {' to '.join(ends)}"] if ends else []
    if found:
        yield f"Epochs until the training loss is below that of chance: {', '.join(found)}."


def _agree(cell: Cell) -> Part:
    condition = f"{cell.label}, correlation of the fields by ascent and by noise (limit: above {AGREE:g})"
    return bounded(condition, _means(cell, "agreement", 0.0).values(), above=AGREE)


def _noise_remark(results: Results, bp: Cell) -> str:
    """Why the claim is not judged if the fields of backpropagation are noise; empty if they are not."""
    explained = mean_interval(_means(bp, "explained", 0.0).values())
    if not explained.n or explained.estimate >= FORMED:
        return ""
    part = f"{explained.estimate:.0%} of the variance in the fields of bp"
    reason = f"Not judged: the models explain {part}; below {FORMED:.0%} the fields count as noise."
    if results.scale not in ("quick", "cpu"):
        return reason
    longer = next(c for c in results.experiment.configs("gpu", alternative(0)) if c.rule == "bp")
    here, there = (config.epochs * examples(config) for config in (bp.config, longer))
    return (
        f"{reason} More seeds would not change that, but longer training may: these runs see {here:,} images, those at "
        f"scale `gpu` {there:,}, with a network that needs a GPU."
    )


CLAIM = ReceptiveFields()
