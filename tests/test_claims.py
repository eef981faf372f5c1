"""Claims: what the records say is what the verdict says."""

from dataclasses import replace
from math import nan

import pytest

from bench.errors import UsageError
from bench.records.store import Store
from bench.sweeps.experiments import alternative, experiment
from replication.claims import CLAIMS
from replication.claims._linear import group
from replication.claims.base import bounded, judged, odd_seeds, results_for, together, told_together
from replication.figures import FIGURES
from replication.results import largest, results
from replication.tables import accuracy_table
from replication.verdicts import ClaimVerdict, Level, authors_runs, level_of

SUPPORTED, REFUTED, OPEN, TOO_FEW, NOT_RUN = ClaimVerdict


def grid_of(name, scale, accuracies):
    """The experiment's grid with made-up accuracies by label, over the seeds of each list; the rest is not run."""
    grid = results(name, scale)
    assert accuracies.keys() <= {cell.label for cell in grid.cells}
    runs = {label: dict(enumerate(map(record, values))) for label, values in accuracies.items()}
    return replace(grid, cells=tuple(replace(cell, records=runs.get(cell.label, {})) for cell in grid.cells))


def record(accuracy):
    if accuracy is nan:
        return {"status": "diverged"}
    config = {"model": "mlp", "dataset": "cifar10", "rule": "bp", "epochs": 2, "seed": 0}
    history = [{"epoch": 1, "test": {"accuracy": 0.9 * accuracy}}, {"epoch": 2, "accuracy": accuracy}]
    costs = {"flops": {}, "flops_layers": {}, "flops_step": 10, "seconds": 1.0, "source": "0123456789ab"}
    trained = {"receptive_fields": {"ascent": [], "noise": [], "active": []}}
    final = {"accuracy": accuracy, "loss": 1.0}
    layers = {f"B{i}": {"participation_ratio": 9.0, "effective_rank": 9.0} for i in (1, 2, 3)}
    common = {"status": "ok", "config": config, "history": history, "final": final, "trained": trained}
    return common | costs | {"dimension": layers}


def test_a_seed_far_from_all_others_is_named():
    grid = grid_of("mlp-all-layers", "cpu", {"bp": [59, 59.2, 58.8, 50, 59.1], "fa": around(50, 3), "kp": [10, 60]})
    note = "Seed 3 of bp on cifar10 ends at 50.0%, the others between 58.8 and 59.2%."
    assert odd_seeds(grid.cells) == (note,)
    assert judged(CLAIMS.get("n2"), grid).notes.count(note) == 1


def around(mean, spread=0.1):
    return [mean - spread, mean, mean + spread, mean, mean]


GOOD = {"bp": around(59), "ldfa r=10": around(58.9), "ldfa r=full": around(58.95), "bp width=64": around(52)}
GOOD |= {"fa": around(50)}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, SUPPORTED),
        ({"ldfa r=10": around(57)}, REFUTED),
        ({"ldfa r=10": around(58.9)[:4]}, TOO_FEW),
        ({"bp width=64": around(59.5)}, REFUTED),
        ({"bp width=64": []}, NOT_RUN),
        ({"ldfa r=10": [58.9, 58.9, 58.9, 58.9, nan]}, OPEN),
        ({label: around(accuracies[1] - 10) for label, accuracies in GOOD.items()}, OPEN),
        ({label: [] for label in GOOD}, NOT_RUN),
    ],
    ids=["holds", "low", "four seeds", "narrow wins", "no narrow", "one diverged", "bp below its floor", "nothing"],
)
def test_all_layers(changes, verdict):
    found = grid_of("mlp-all-layers", "cpu", GOOD | changes)
    assert CLAIMS.get("n2").judge(found).verdict is verdict


def test_fa_fails_only_beyond_five_points():
    found = grid_of("mlp-all-layers", "cpu", GOOD)
    assert [part.verdict for part in CLAIMS.get("n2").judge(found).context] == [SUPPORTED] * 5
    close = grid_of("mlp-all-layers", "cpu", GOOD | {"fa": around(55)})
    assert [part.verdict for part in CLAIMS.get("n2").judge(close).context[-2:]] == [REFUTED, SUPPORTED]


def test_one_layer_needs_every_layer():
    good = {"bp": around(59), **{f"ldfa B{i}=10": around(59) for i in (1, 2, 3)}}
    claim = CLAIMS.get("n1")
    assert claim.judge(grid_of("mlp-one-layer", "cpu", good)).verdict is SUPPORTED
    assert claim.judge(grid_of("mlp-one-layer", "cpu", good | {"ldfa B2=10": around(55)})).verdict is REFUTED
    assert claim.judge(grid_of("mlp-one-layer", "cpu", good | {"ldfa B2=10": []})).verdict is NOT_RUN


def complete(**changes):
    """The grid of N2 with all its runs, which the claim supports; `changes` to the first record."""
    grid = grid_of("mlp-all-layers", "cpu", {})
    full = grid_of("mlp-all-layers", "cpu", {c.label: GOOD.get(c.label, around(58)) for c in grid.cells})
    common = {"device": {"type": "cpu"}, "data": {"name": "cifar10", "sha256": {"train": "a"}}}
    for cell in full.cells:
        for seed in cell.records:
            cell.records[seed] |= common
    full.cells[0].records[0].update(changes)
    return full


@pytest.mark.parametrize(
    ("changes", "remark"),
    [
        ({"device": {"type": "cuda", "name": "H100"}}, "runs on H100 and cpu are mixed"),
        ({"data": {"name": "cifar10", "sha256": {"train": "b"}}}, "of different checksums are mixed"),
    ],
)
def test_records_of_mixed_sources_are_not_judged(changes, remark):
    claim = CLAIMS.get("n2")
    assert judged(claim, complete()).verdict is SUPPORTED
    judgement = judged(claim, complete(**changes))
    assert judgement.verdict is OPEN
    assert remark in judgement.remark


def test_gpus_of_two_models_are_not_judged_together():
    grid = complete()
    for cell in grid.cells:
        for seed, record in cell.records.items():
            record["device"] = {"type": "cuda", "name": "H100" if seed else "A100"}
    assert judged(CLAIMS.get("n2"), grid).remark == "Not judged: runs on A100 and H100 are mixed."


def test_a_claim_is_judged_by_what_its_criterion_reads():
    """Other runs of the grid may be missing, and mix devices; of those that it reads, every one counts."""
    grid = complete()
    del grid.cell("kp").records[3]
    grid.cell("kp").records[0]["device"] = {"type": "cuda", "name": "H100"}
    assert judged(CLAIMS.get("n2"), grid).verdict is SUPPORTED
    del grid.cell("bp", width=64).records[3]
    judgement = judged(CLAIMS.get("n2"), grid)
    assert (judgement.verdict, judgement.words, judgement.n) == (TOO_FEW, "too few seeds", 4)


@pytest.mark.parametrize("name", CLAIMS.names())
def test_what_a_claim_reads_is_in_the_grids_and_trained_first(name):
    claim = CLAIMS.get(name)
    for scale in ("quick", "cpu", "gpu", "paper"):
        found = [results(each, scale) for each in claim.experiments]
        reads = claim.reads(*found)
        assert reads and all(cell.needed for cell in reads)
        assert claim.judge(*found).verdict is NOT_RUN or any(each.recorded for each in found)


def test_a_setting_that_no_grid_has_is_an_error():
    grid = results("mlp-all-layers", "cpu")
    for wrong in (("ldfa", "11"), ("ldfaa", "10"), ("ldfa", None)):
        with pytest.raises(UsageError, match=r"^experiment 'mlp-all-layers' at scale cpu has no .*ldfa r=10"):
            grid.cell(*wrong)
    with pytest.raises(UsageError, match="has no setting bp width=65"):
        grid.cell("bp", width=65)
    assert grid.cell("bp").options == {} and grid.cell("bp", width=64).label == "bp width=64"


def test_rank_and_rule_share_what_is_lost():
    found = grid_of("mlp-all-layers", "cpu", GOOD | {"ldfa r=10": around(57), "ldfa r=full": around(58.4)})
    rank, rule = CLAIMS.get("n2").judge(found).context[:2]
    assert (rank.estimate, rule.estimate) == pytest.approx((-1.4, -0.6))
    (share,), (fit,) = CLAIMS.get("n2").judge(found).shares, CLAIMS.get("n2").judge(found).notes
    assert share.startswith(
        "At the rates used, the rule's part, `ldfa r=full` minus `bp`: -0.60 [-0.60, -0.60] points; the rank's part, "
    )
    assert share.endswith("minus full rank: `ldfa r=10` -1.40 [-1.40, -1.40].")
    alone = grid_of("mlp-all-layers", "cpu", GOOD | {"ldfa r=full": []})
    assert CLAIMS.get("n2").judge(alone).shares == ("`ldfa r=full` is not run here, so the rank's part is not known.",)
    assert fit.endswith(": `ldfa` 57.0% with a test loss of 1.00, `bp` 59.0% with a test loss of 1.00.")


@pytest.mark.parametrize(
    ("with_dropout", "without", "verdict", "words"),
    [
        (62.2, 61.9, SUPPORTED, "supported"),
        (60.1, 60.0, REFUTED, "not supported"),
        (60.1, 61.9, OPEN, "inconclusive"),
        (62.2, 60.0, OPEN, "inconclusive"),
        (62.2, None, NOT_RUN, "not run"),
    ],
    ids=["both match", "both are below", "without alone", "with alone", "without is not run"],
)
def test_at_scale_paper_both_dropouts_have_to_agree(with_dropout, without, verdict, words):
    accuracies = {"bp": around(62.3), "ldfa r=10": around(with_dropout), "bp width=64": around(52)}
    if without:
        accuracies |= {"bp dropout=0.0": around(61.9), "ldfa r=10 dropout=0.0": around(without)}
    judgement = judged(CLAIMS.get("n2"), grid_of("mlp-all-layers", "paper", accuracies))
    assert (judgement.verdict, judgement.words, judgement.level) == (verdict, words, Level.PAPER)
    assert "dropout 0.3" in judgement.parts[0].number and "no dropout" in judgement.parts[0].number


def test_a_diverged_run_counts_as_chance_and_is_counted():
    found = grid_of("mlp-all-layers", "cpu", GOOD | {"fa": [50.0, nan]})
    assert found.accuracy("fa") == {0: 50.0, 1: 10.0}
    row = accuracy_table(found).text.set_index("setting").loc["`fa`"]
    assert row["runs"] == "1 of 5, 1 diverged or failed"


@pytest.mark.parametrize(
    ("values", "limits", "verdict"),
    [
        (around(1), {"below": 2}, SUPPORTED),
        (around(3), {"below": 2}, REFUTED),
        (around(2), {"below": 2}, OPEN),
        (around(1)[:4], {"below": 2}, TOO_FEW),
        (around(3), {"above": 2}, SUPPORTED),
        (around(1), {"above": 2}, REFUTED),
        ([], {"above": 2}, NOT_RUN),
    ],
)
def test_the_whole_interval_decides_a_limit(values, limits, verdict):
    part = bounded("x", values, **limits)
    assert part.verdict is verdict
    assert together("both", [part, bounded("y", [5] * 9, above=1)]).n == len(values)


def test_an_open_limit_says_how_many_seeds_would_settle_it():
    part = bounded("x", around(1.9, spread=0.2), above=0, below=2)
    assert part.verdict is OPEN
    assert part.number == "1.9 [1.72, 2.08]; about 11 seeds would settle it at this mean and spread"
    assert part.seeds_needed == 11
    assert together("both", [part, bounded("y", around(1), below=2)]).seeds_needed == part.seeds_needed
    assert together("both", [part, bounded("y", around(3), below=2)]).seeds_needed is None


def test_parts_told_together_name_all_with_the_same_verdict():
    limits = {"a": 9.0, "b": 1.0, "c": 8.0}
    parts = told_together({name: bounded("x", [2.0] * 5, below=low) for name, low in limits.items()}, "not {}", "in {}")
    assert [part.fails for part in parts] == ["not a and c", "not b", "not a and c"]
    assert [part.holds for part in parts] == ["in a and c", "in b", "in a and c"]


def test_fixed_and_learned_feedback_are_judged_by_rank():
    grid = grid_of("linear", "cpu", {})
    wrong = {"status": "ok", "history": [{"loss": 50.0}], "first_losses": [100.0]}
    right = wrong | {"history": [{"loss": 0.5}]}

    def filled(kind):
        cells = (replace(c, records={s: kind(c, s) for s in range(5)}) for c in grid.cells)
        return replace(grid, cells=tuple(cells))

    def by_rule(cell, seed):
        learned = cell.config.rule == "ldfa" and cell.rank >= int(cell.config.dataset.partition(":")[2])
        chosen = right if learned else wrong
        return chosen | {"history": [{"loss": chosen["history"][0]["loss"] * (1 + 0.01 * seed)}]}

    assert CLAIMS.get("l2").judge(filled(by_rule)).verdict is SUPPORTED
    assert CLAIMS.get("l3").judge(filled(by_rule)).verdict is SUPPORTED
    assert CLAIMS.get("l2").judge(filled(lambda c, s: right)).verdict is REFUTED
    assert CLAIMS.get("l3").judge(filled(lambda c, s: wrong)).verdict is REFUTED


def test_the_number_of_a_group_of_ranks_is_one_that_decides():
    """At r = 8 open around the limit, at the higher ranks far below it: the group fails by these."""
    grid = results("linear", "cpu")

    def records(cell):
        left = around(5 if cell.rank == 8 else 1)
        return {s: {"status": "ok", "first_losses": [100.0], "history": [{"loss": v}]} for s, v in enumerate(left)}

    filled = replace(grid, cells=tuple(replace(cell, records=records(cell)) for cell in grid.cells))
    part = group(filled, "fa-lowrank", "linear-teacher:8", range(8, 64), "above", 5.0)
    assert part.verdict is REFUTED and part.number == "1 [0.912, 1.09]% at r = 16, nearest to the limit"
    part = group(filled, "fa-lowrank", "linear-teacher:8", range(4, 9), "above", 0.5)
    assert part.verdict is SUPPORTED and "r = 4" in part.number


def test_claims_are_judged_on_the_largest_complete_scale(tmp_path, monkeypatch, made_up):
    """Records of two scales: cpu complete, gpu begun; and a deleted record is missed."""
    grid = "{seeds: 2, runs: [{rule: [bp, fa]}]}"
    (tmp_path / "tiny.yaml").write_text(f"{{title: tiny, model: linear, scales: {{cpu: {grid}, gpu: {grid}}}}}")
    monkeypatch.setenv("BENCH_EXPERIMENTS", str(tmp_path))
    small = experiment("tiny")

    def write(scale, runs):
        for config in runs:
            made_up(config, 0.0, scale, "tiny")

    write("cpu", small.configs("cpu"))
    write("gpu", small.configs("gpu")[:1])
    assert largest("tiny", tmp_path).scale == "cpu"
    deleted = small.configs("cpu")[0]
    Store(tmp_path / "cpu").path("tiny", deleted).unlink()
    results.cache_clear()
    found = results("tiny", "cpu", tmp_path)
    assert found.recorded == found.planned - 1
    assert largest("tiny", tmp_path).scale == "cpu"
    for path in Store(tmp_path / "cpu").paths("tiny"):
        path.unlink()
    results.cache_clear()
    assert largest("tiny", tmp_path).scale == "gpu"


def test_the_level_of_runs_is_how_near_they_come_to_the_authors():
    found = experiment("mlp-all-layers")
    authors = authors_runs(found)
    paper = found.configs("paper", alternative(0))[0]
    assert level_of(replace(paper, seed=7, test_every=0), authors) is Level.PAPER
    changes = [{"lr": 1e-3}, {"batch_size": 64}, {"augment": ()}, {"epochs": 149}, {"model_options": {}}]
    assert {level_of(replace(paper, **change), authors) for change in changes} == {Level.FULL}
    assert level_of(replace(paper, epochs=30), authors) is Level.FULL
    reduced = [{"epochs": 29}, {"epochs": 30, "epoch_examples": 49_000}, {"dataset": "cifar10:5"}]
    reduced += [{"model_options": {"width": 500}}, {"dataset": "digits"}]
    assert {level_of(replace(paper, **change), authors) for change in reduced} == {Level.REDUCED}
    assert level_of(replace(paper, epochs=30, model_options={"width": 64}), authors) is Level.FULL
    levels = {name: {c.level for c in results(name, "cpu").cells} for name in ("mlp-all-layers", "cnn-rank", "linear")}
    assert levels == {"mlp-all-layers": {Level.FULL}, "cnn-rank": {Level.REDUCED}, "linear": {Level.PAPER}}
    assert {cell.level for cell in results("mlp-all-layers", "quick").cells} == {Level.REDUCED}


def test_only_runs_near_the_papers_support_a_claim_or_do_not():
    words = {level: [verdict.words(level) for verdict in ClaimVerdict] for level in Level}
    near = ["supported", "not supported", "inconclusive", "too few seeds", "not run"]
    assert words[Level.PAPER] == words[Level.FULL] == near
    far = ["holds at reduced scale", "does not hold at reduced scale", "open", "too few seeds", "not run"]
    assert words[Level.REDUCED] == far


def test_a_claim_is_judged_at_the_highest_level_that_has_its_runs(tmp_path, monkeypatch):
    """Complete for N2 at scale cpu; at scale paper a setting that it reads lacks a seed, then has all."""
    grids = {
        "cpu": grid_of("mlp-all-layers", "cpu", GOOD),
        "paper": grid_of("mlp-all-layers", "paper", {"bp": around(62), "ldfa r=10": around(62)}),
    }
    monkeypatch.setattr("replication.claims.base.results", lambda name, scale, folder: grids[scale])
    monkeypatch.setattr("replication.claims.base.recorded_scales", lambda folder: [*grids])
    claim = CLAIMS.get("n2")
    assert results_for(claim, tmp_path)[0].scale == "cpu"
    assert judged(claim, *results_for(claim, tmp_path)).words == "supported"
    whole = GOOD | {"bp dropout=0.0": around(60), "ldfa r=10 dropout=0.0": around(60)}
    grids["paper"] = grid_of("mlp-all-layers", "paper", whole)
    assert results_for(claim, tmp_path)[0].scale == "paper"
    del grids["paper"].cell("ldfa", "10").records[0]
    assert results_for(claim, tmp_path)[0].scale == "cpu"
    del grids["cpu"].cell("bp").records[0], grids["cpu"].cell("bp", width=64).records[0]
    assert results_for(claim, tmp_path)[0].scale == "paper"


# Dimension of the representations


def measured(shares, scale="quick", seeds=5):
    """The grid of H1 with made-up participation ratios of the three layers, by setting, in parts of bp's."""
    grid = results("mlp-all-layers", scale)

    def of(label, seed):
        ratios = [10 * share * (1 + 0.01 * seed) for share in shares[label]]
        layers = {f"B{i}": {"participation_ratio": r, "effective_rank": 2 * r} for i, r in enumerate(ratios, 1)}
        return record(60.0) | {"dimension": layers}

    cells = [
        replace(cell, records={s: of(cell.label, s) for s in range(seeds)} if cell.label in shares else {})
        for cell in grid.cells
    ]
    return replace(grid, cells=tuple(cells))


HIGH = {"bp": (3, 4, 2), "ldfa r=10": (2.7, 3.6, 1.8), "bp width=16": (1, 1, 1)}


@pytest.mark.parametrize(
    ("changes", "verdicts"),
    [
        ({}, [SUPPORTED] * 6),
        ({"ldfa r=10": (2.7, 3.0, 1.8)}, [SUPPORTED, REFUTED, SUPPORTED, *[SUPPORTED] * 3]),
        ({"bp width=16": (1, 1, 1.9)}, [*[SUPPORTED] * 5, REFUTED]),
    ],
    ids=["high", "one layer loses a quarter", "the narrow network has more"],
)
def test_representations_are_judged_layer_by_layer_and_the_two_conditions_apart(changes, verdicts):
    claim, found = CLAIMS.get("h1"), measured(HIGH | changes)
    judgement = judged(claim, found)
    assert [part.verdict for part in judgement.parts] == verdicts
    assert judgement.level is Level.REDUCED
    assert [part.estimate for part in judgement.parts[:1]] == [pytest.approx(0.9)]
    assert judged(claim, measured(HIGH, seeds=4)).verdict is TOO_FEW


def test_the_dimension_that_is_left_is_told_in_words_and_drawn():
    found = measured(HIGH)
    (note,) = CLAIMS.get("h1").judge(found).notes
    assert note.startswith("`ldfa` at r = 10 keeps 90%, 90% and 90% of the dimension")
    assert note.endswith("; `bp` at width 16 keeps 33%, 25% and 50%.")
    figure, numbers = FIGURES.get("mlp-dimension")(found)
    assert len(numbers) == 3 * 5 * 3 and len(figure.axes) == 3
    row = CLAIMS.get("h1").details(found).numbers.set_index("setting").loc["bp"]
    assert row["B2_participation_ratio"] == pytest.approx(40 * 1.02)


def test_a_run_that_diverged_has_no_dimension():
    found = measured(HIGH)
    found.cell("ldfa", "10").records[0] = {"status": "diverged"}
    assert CLAIMS.get("h1").judge(found).parts[0].verdict is OPEN
