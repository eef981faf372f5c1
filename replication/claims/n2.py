"""N2: all layers cut at once stay near backpropagation, and beat a narrow network."""

from typing import Any

from bench.stats import compare
from replication.against_authors import beside_authors
from replication.claims.base import Claim, Judgement, above, agreeing, below, fa_fails, floor_remark, rank_or_rule, told
from replication.results import Cell, Results, training_accuracy

CLOSE = 2.0


class AllLayers(Claim):
    title = "MLP, all layers constrained"
    statement = (
        "With the error channels of all layers cut at once to a rank r near the number of classes d, the MLP "
        "stays at or near backpropagation, and beats a network of width 64 trained by backpropagation."
    )
    asks = (
        "whether an MLP stays near backpropagation and beats a narrow network when the errors of all layers are cut to "
        "10 dimensions at once"
    )
    finds = (
        "With the errors of all layers cut to 10 dimensions at once, the MLP stays within a point of backpropagation "
        "and beats a narrow network."
    )
    criterion = (
        "`ldfa` at r = d = 10 matches `bp` (95% interval above -1 point), and its difference from `bp` at width 64 is "
        "above 0 with its whole interval. At scale paper, the first condition is tested with and without dropout "
        "before the output layer, the same for `ldfa` and `bp`, and is settled only if both agree. At scale quick, "
        "the narrow network has width 16 and the full one width 128."
    )
    experiments = ("mlp-all-layers",)
    figure = "mlp-all-layers"
    paper = (("ldfa", "10"), ("bp", None))
    deviations = (
        "Below scale paper, rates and decays are tuned for each rule at width 512, ranked rules at r = 10, with a "
        "separate rate for the feedback. At scale paper all use the authors' Adam at 6e-4 (bp 5e-4) and a weight decay "
        "of 4e-4, chosen on bp: their public scripts have 1e-6 to 7e-4, and which of them made the published results "
        "is not recorded. The narrow network uses the settings of bp at width 512. P starts with orthonormal "
        "columns, the authors' uniform in ±1/sqrt(r). The output layer has 10 outputs: there a rank above 10 is capped "
        "at 10, and at r = 10 P is square, cuts nothing and, starting orthonormal, stays fixed; the authors' learns.",
    )

    def reads(self, results: Results) -> list[Cell]:
        pairs = [cell for pair in _pairs(results).values() for cell in pair]
        return [*pairs, narrow_network(results)]

    def judge(self, results: Results) -> Judgement:
        bp, low, fa = results.accuracy("bp"), results.accuracy("ldfa", "10"), results.accuracy("fa")
        narrow = narrow_network(results)
        both = [
            above(f"ldfa r = 10 minus bp{with_it}", compare(rule.accuracy, baseline.accuracy))
            for with_it, (rule, baseline) in _pairs(results).items()
        ]
        split, shares = rank_or_rule([results.cell("ldfa", "10")], results.cell("ldfa", "full"), results.cell("bp"))
        width = narrow.config.model_options["width"]
        return Judgement(
            parts=(
                told(
                    both[0] if len(both) == 1 else agreeing("ldfa r = 10 minus bp, with and without dropout", both),
                    "with the errors of all layers cut to 10 dimensions, the MLP loses more than a point",
                    "the MLP stays within a point of backpropagation",
                ),
                told(
                    above(f"ldfa r = 10 minus bp at width {width}", compare(low, narrow.accuracy, margin=0.0)),
                    f"the MLP does no better than a network of width {width} trained by backpropagation",
                    f"it beats a network of width {width} trained by backpropagation",
                ),
            ),
            context=(
                *(both if len(both) > 1 else ()),
                *split,
                above("ldfa r = 10 minus bp, within two points", compare(low, bp, margin=CLOSE)),
                fa_fails(results),
                below("fa minus ldfa r = 10", compare(fa, low, margin=0.0)),
            ),
            shares=shares,
            notes=tuple(filter(None, [beside_authors(results), _fit(results)])),
            remark=floor_remark(results),
        )


def _fit(results: Results) -> str:
    """How well both rules fit the training images, beside their test losses; empty without runs."""
    told = []
    for label in (("ldfa", "10"), ("bp",)):
        cell = results.cell(*label)
        fits, loss = cell.mean(training_accuracy), cell.mean(lambda run: run["final"]["loss"])
        if fits is None:
            return ""
        told.append(f"`{label[0]}` {fits:.1f}% with a test loss of {loss:.2f}")
    return f"Training accuracy over the last epoch: {', '.join(told)}."


def _pairs(results: Results) -> dict[str, tuple[Cell, Cell]]:
    """`ldfa` at r = 10 and `bp` on the same network: that of the protocol, and without its dropout if it has any."""
    dropout = results.cell("bp").config.model_options.get("dropout", 0.0)
    pairs: dict[str, dict[str, Any]] = {"": {}}
    if dropout:
        pairs = {f", dropout {dropout:g}": {}, ", no dropout": {"dropout": 0.0}}
    return {
        words: (results.cell("ldfa", "10", **options), results.cell("bp", **options))
        for words, options in pairs.items()
    }


def narrow_network(results: Results) -> Cell:
    """`bp` on the narrow network."""
    return results.cell("bp", width=16 if results.scale == "quick" else 64)


CLAIM = AllLayers()
