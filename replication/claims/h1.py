"""H1: representations stay high-dimensional although the error is low-dimensional."""

from collections.abc import Mapping, Sequence

import pandas as pd

from bench.records.store import Record
from bench.stats import compare, mean_interval, number
from replication.claims.base import Claim, Judgement, Part, above, bounded, floor_remark, told, told_together
from replication.claims.n2 import narrow_network
from replication.results import Cell, Results
from replication.tables import Table, columns

KEPT = 0.8
"""Share of bp's dimension above which a representation counts as high-dimensional."""
LAYERS = {"B1": "first", "B2": "second", "B3": "third"}
"""Hidden layers, by the label of the layer that receives their activity."""
RATIO, RANK = "participation_ratio", "effective_rank"
MEASURES = {RATIO: "participation ratio", RANK: "effective rank"}


class Representations(Claim):
    title = "MLP, dimension of the representations"
    statement = (
        "The error that trains the network has few dimensions, but its representations have many: the rule trains "
        '"while maintaining high-dimensional representations" (abstract).'
    )
    asks = "whether representations stay high-dimensional although the error is low-dimensional"
    finds = (
        "Trained with an error of 10 dimensions, the hidden layers keep over 80% of the dimension that backpropagation "
        "gives them, which is more than a narrow network has."
    )
    criterion = (
        "The dimension of a hidden layer's activity is the participation ratio of the eigenvalues of its covariance "
        "over the test images at the end of training. For `ldfa` at r = d = 10 in all layers, the ratio of this "
        f"dimension to that of `bp` is above {KEPT:g} in each hidden layer, and above the same ratio of `bp` at width "
        "64, each with its whole paired 95% interval. A run that diverged or failed counts as dimension 0. At scale "
        "quick, the narrow network has width 16 and the full one width 128."
    )
    experiments = ("mlp-all-layers",)
    figure = "mlp-dimension"
    deviations = (
        "The paper gives no number. The criterion was fixed before these runs. One seed of a shorter protocol, run "
        "after that, suggested that the first condition fails and the second holds.",
    )

    def reads(self, results: Results) -> list[Cell]:
        return [results.cell("bp"), results.cell("ldfa", "10"), narrow_network(results)]

    def judge(self, results: Results) -> Judgement:
        bp, low, narrow = self.reads(results)
        ours = {layer: over_bp(low, bp, layer) for layer in LAYERS}
        theirs = {layer: over_bp(narrow, bp, layer) for layer in LAYERS}
        width = narrow.config.model_options["width"]
        lowest = min((c for c in results.cells if c.config.rule == "ldfa" and c.rank), key=lambda cell: cell.rank or 0)
        others = [(cell, layer) for cell in (lowest, results.cell("ldfa", "full")) for layer in LAYERS]
        plain = _without_dropout(results)
        return Judgement(
            parts=(
                *(
                    told(
                        _kept(low, layer, ours[layer]),
                        f"the {where} hidden layer has {_share(ours[layer])} of its dimension under bp, not {KEPT:.0%}",
                        f"the {where} hidden layer keeps over {KEPT:.0%} of its dimension under bp",
                    )
                    for layer, where in LAYERS.items()
                ),
                *told_together(
                    {where: _above_narrow(layer, width, ours[layer], theirs[layer]) for layer, where in LAYERS.items()},
                    "a narrow network has as many dimensions in its {} hidden layer",
                    "a narrow network has fewer dimensions in its {} hidden layer",
                ),
            ),
            context=(
                *(_kept(cell, layer, over_bp(cell, bp, layer)) for cell, layer in others),
                *(_kept(cell, layer, over_bp(cell, baseline, layer)) for cell, baseline in plain for layer in LAYERS),
                *(_kept(low, layer, over_bp(low, bp, layer, RANK), "effective rank") for layer in LAYERS),
            ),
            notes=(_left(ours, theirs, width), *_left_without_dropout(plain)),
            remark=floor_remark(results),
        )

    def details(self, results: Results) -> Table | None:
        """Both dimensions of each hidden layer, one row per setting with runs."""
        numbers, text = [], []
        for cell in results.cells:
            runs = [record["dimension"] for record in cell.records.values() if "dimension" in record]
            row, words = {"setting": cell.label, "n": len(runs)}, {"setting": f"`{cell.label}`", "n": len(runs)}
            for measure, name in MEASURES.items():
                for layer, where in LAYERS.items():
                    interval = mean_interval(run[layer][measure] or 0.0 for run in runs)
                    row |= columns(f"{layer}_{measure}", interval)
                    words[f"{name}, {where}"] = number(interval, ".1f")
            if runs:
                numbers.append(row)
                text.append(words)
        return Table(pd.DataFrame(numbers), pd.DataFrame(text)) if numbers else None


def _kept(cell: Cell, layer: str, ratios: Mapping[int, float], measure: str = "dimension") -> Part:
    condition = (
        f"{measure} of the {LAYERS[layer]} hidden layer under {cell.label}, relative to bp (limit: above {KEPT:g})"
    )
    return bounded(condition, ratios.values(), above=KEPT)


def _above_narrow(layer: str, width: int, ours: Mapping[int, float], theirs: Mapping[int, float]) -> Part:
    condition = f"the same ratio of the {LAYERS[layer]} hidden layer, minus that of bp at width {width}"
    return above(condition, compare(ours, theirs, margin=0.0), unit="")


def dimension(record: Record, layer: str, measure: str = RATIO) -> float:
    """Dimension of the activity that a layer receives; 0 for constant activity."""
    return record["dimension"][layer][measure] or 0.0


def over_bp(cell: Cell, bp: Cell, layer: str, measure: str = RATIO) -> dict[int, float]:
    """A measure of the dimension relative to bp by seed, for the seeds whose bp run ended well."""
    ended = {seed: record for seed, record in bp.records.items() if record["status"] == "ok"}
    ours = cell.values(lambda record: dimension(record, layer, measure), 0.0)
    theirs = {seed: dimension(record, layer, measure) for seed, record in ended.items()}
    return {seed: value / theirs[seed] for seed, value in ours.items() if theirs.get(seed)}


def _left(ours: Mapping[str, Mapping[int, float]], narrow: Mapping[str, Mapping[int, float]], width: int) -> str:
    """The kept dimension as a sentence; empty without runs."""
    if not all([*ours.values(), *narrow.values()]):
        return ""
    return (
        f"`ldfa` at r = 10 keeps {_shares(ours)} of the dimension (participation ratio) that `bp` gives the three "
        f"hidden layers; `bp` at width {width} keeps {_shares(narrow)}."
    )


def _without_dropout(results: Results) -> list[tuple[Cell, Cell]]:
    """`ldfa` at r = 10 and `bp`, both without the protocol's dropout; none if it has none, or without runs."""
    if not results.cell("bp").config.model_options.get("dropout"):
        return []
    low, bp = (results.cell(*setting, dropout=0.0) for setting in (("ldfa", "10"), ("bp",)))
    return [(low, bp)] if low.records and bp.records else []


def _left_without_dropout(plain: Sequence[tuple[Cell, Cell]]) -> list[str]:
    return [
        f"Without dropout it keeps {_shares({layer: over_bp(cell, bp, layer) for layer in LAYERS})}."
        for cell, bp in plain
    ]


def _shares(ratios: Mapping[str, Mapping[int, float]]) -> str:
    return "{}, {} and {}".format(*(_share(ratios[layer]) for layer in LAYERS))


def _share(ratios: Mapping[int, float]) -> str:
    return f"{mean_interval(ratios.values()).estimate:.0%}"


CLAIM = Representations()
