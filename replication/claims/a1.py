"""A1, a question of the paper's reviewers: which of the feedback factors has to learn in a nonlinear network."""

from collections.abc import Collection

from bench.stats import MARGIN, Verdict, compare, number
from replication.claims.base import Claim, Judgement, Part, above, floor_remark, told_together
from replication.results import Cell, Results

ALONE = ("ldfa-q", "ldfa-p")
RANKS = (10, 2)


class Ablation(Claim):
    title = "MLP, which of P and Q has to learn"
    statement = (
        "The paper shows for linear networks that both P and Q have to learn; its reviewers asked for the same test in "
        "nonlinear networks. Read as: learning both is better than learning either alone."
    )
    asks = "whether P and Q both have to learn in a nonlinear network"
    finds = "In an MLP, learning both P and Q is better than learning either alone, at rank 10 and at rank 2."
    criterion = (
        "At r = 10 and at r = 2, `ldfa` minus `ldfa-q` (only Q learns) and `ldfa` minus `ldfa-p` (only P learns) are "
        "above 0 with their whole 95% interval."
    )
    experiments = ("mlp-ablation",)
    figure = "mlp-ablation"
    deviations = ("Each rule has its own rates, tuned at r = 10; those of `fa-lowrank` apply only to its weights.",)

    def reads(self, results: Results) -> list[Cell]:
        ranked = [results.cell(rule, str(rank)) for rank in RANKS for rule in ("ldfa", *ALONE)]
        return [results.cell("bp"), *ranked]

    def judge(self, results: Results) -> Judgement:
        def difference(rule: str, other: str, rank: int) -> Part:
            ours, theirs = (results.accuracy(name, str(rank)) for name in (rule, other))
            return above(f"{rule} minus {other}, r = {rank}", compare(ours, theirs, margin=0.0))

        from_error = compare(results.accuracy("ldfa", "2", output="error"), results.accuracy("ldfa", "2"))
        parts: list[Part] = []
        for other in ALONE:
            alone = f"learning {other[-1].upper()} alone at"
            parts += told_together(
                {f"rank {rank}": difference("ldfa", other, rank) for rank in RANKS},
                f"learning both P and Q is worse than {alone} {{}}",
                f"learning both P and Q is better than {alone} {{}}",
            )
        return Judgement(
            parts=tuple(parts),
            context=(
                *(difference(rule, "fa-lowrank", rank) for rank in RANKS for rule in ALONE),
                above(
                    "ldfa r = 2, P of the output layer from the error minus from the targets",
                    from_error,
                ),
            ),
            notes=_enough_alone(results),
            remark=floor_remark(results),
        )


def _enough_alone(results: Results) -> tuple[str, ...]:
    """Notes on each rule that learns one factor: that it loses less than a point to learning both, or gains nothing."""
    notes = []
    for rule in ALONE:
        factor = rule[-1].upper()
        if near := _where(results, rule, "ldfa", MARGIN, {Verdict.MATCHES}):
            notes.append(f"Learning {factor} alone loses less than a point ({near}).")
        for words, kept in (("shows no gain over", Verdict.INCONCLUSIVE), ("loses to", Verdict.BELOW)):
            if found := _where(results, rule, "fa-lowrank", 0.0, {kept}):
                notes.append(f"Learning {factor} alone {words} learning neither ({found}).")
    return tuple(notes)


def _where(results: Results, rule: str, other: str, margin: float, kept: Collection[Verdict]) -> str:
    """The differences of two rules at the ranks whose verdict is one of `kept`."""
    found = {r: compare(results.accuracy(rule, str(r)), results.accuracy(other, str(r)), margin) for r in RANKS}
    shown = [f"r = {rank}: {number(c.interval, '+.2f')}" for rank, c in found.items() if c.verdict in kept]
    return f"{rule} minus {other}, {'; '.join(shown)}" if shown else ""


CLAIM = Ablation()
