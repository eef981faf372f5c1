"""Claims: what the records say is what the verdict says."""

from dataclasses import asdict, replace
from math import nan

import pandas as pd
import pytest

from bench.experiments import experiment
from bench.records import Store
from replication.claims import CLAIMS
from replication.claims.base import bounded, together
from replication.figures import FIGURES
from replication.results import largest, results
from replication.stats import ClaimVerdict
from replication.tables import accuracy_table, paper_number, pipe_table

SUPPORTED, REFUTED, OPEN, NOT_RUN = ClaimVerdict


def table_of(name, scale, accuracies):
    """The experiment's grid with made-up accuracies by label, over the seeds of each list; the rest is not run."""
    grid = results(name, scale)
    runs = {label: dict(enumerate(map(record, values))) for label, values in accuracies.items()}
    return replace(grid, cells=tuple(replace(cell, records=runs.get(cell.label, {})) for cell in grid.cells))


def record(accuracy):
    if accuracy is nan:
        return {"status": "diverged"}
    return {"status": "ok", "final": {"accuracy": accuracy}}


def around(mean, spread=0.1):
    return [mean - spread, mean, mean + spread, mean, mean]


GOOD = {"bp": around(59), "ldfa r=10": around(58.9), "bp width=64": around(52), "fa": around(50)}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, SUPPORTED),
        ({"ldfa r=10": around(57)}, REFUTED),
        ({"ldfa r=10": around(58.9)[:4]}, OPEN),
        ({"bp width=64": around(59.5)}, REFUTED),
        ({"bp width=64": []}, OPEN),
        ({"ldfa r=10": [58.9, 58.9, 58.9, 58.9, nan]}, OPEN),
        ({label: around(accuracies[1] - 10) for label, accuracies in GOOD.items()}, OPEN),
        ({label: [] for label in GOOD}, NOT_RUN),
    ],
    ids=["holds", "low", "four seeds", "narrow wins", "no narrow", "one diverged", "bp below its floor", "nothing"],
)
def test_all_layers(changes, verdict):
    found = table_of("mlp-all-layers", "cpu", GOOD | changes)
    assert CLAIMS.get("n2").judge(found).verdict is verdict


def test_fa_fails_only_beyond_five_points():
    found = table_of("mlp-all-layers", "cpu", GOOD)
    assert [part.verdict for part in CLAIMS.get("n2").judge(found).context] == [SUPPORTED] * 3
    close = table_of("mlp-all-layers", "cpu", GOOD | {"fa": around(55)})
    assert [part.verdict for part in CLAIMS.get("n2").judge(close).context] == [SUPPORTED, REFUTED, SUPPORTED]


def test_one_layer_needs_every_layer():
    good = {"bp": around(59), **{f"ldfa B{i}=10": around(59) for i in (1, 2, 3)}}
    claim = CLAIMS.get("n1")
    assert claim.judge(table_of("mlp-one-layer", "cpu", good)).verdict is SUPPORTED
    assert claim.judge(table_of("mlp-one-layer", "cpu", good | {"ldfa B2=10": around(55)})).verdict is REFUTED
    assert claim.judge(table_of("mlp-one-layer", "cpu", good | {"ldfa B2=10": []})).verdict is OPEN


def test_a_diverged_run_counts_as_chance_and_is_counted():
    found = table_of("mlp-all-layers", "cpu", GOOD | {"fa": [50.0, nan]})
    assert found.accuracy("fa") == {0: 50.0, 1: 10.0}
    row = accuracy_table(found).text.set_index("setting").loc["`fa`"]
    assert row["runs"] == "1 of 5, 1 diverged or failed"


@pytest.mark.parametrize(
    ("values", "limits", "verdict"),
    [
        (around(1), {"below": 2}, SUPPORTED),
        (around(3), {"below": 2}, REFUTED),
        (around(2), {"below": 2}, OPEN),
        (around(1)[:4], {"below": 2}, OPEN),
        (around(3), {"above": 2}, SUPPORTED),
        (around(1), {"above": 2}, REFUTED),
        ([], {"above": 2}, NOT_RUN),
    ],
)
def test_the_whole_interval_decides_a_limit(values, limits, verdict):
    part = bounded("x", values, **limits)
    assert part.verdict is verdict
    assert together("both", [part, bounded("y", [5] * 9, above=1)]).n == len(values)


def test_fixed_and_learned_feedback_are_judged_by_rank():
    grid = table_of("linear", "cpu", {})
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


def test_paper_numbers_stand_beside_their_cells():
    grid = table_of("mlp-all-layers", "cpu", {})
    assert paper_number("mlp-all-layers", grid.cell("ldfa r=10")) == "61.84 ± 0.23 (n = 10)"
    assert paper_number("mlp-all-layers", grid.cell("bp")) == "62.75 ± 0.20 (n = 10)"
    assert paper_number("mlp-all-layers", grid.cell("bp width=64")) == ""
    assert paper_number("mlp-all-layers", grid.cell("ldfa-q r=10")) == ""
    one = table_of("mlp-one-layer", "cpu", {})
    assert paper_number("mlp-one-layer", one.cell("ldfa B1=10")) == "62.63 ± 0.31 (n = 10)"
    assert paper_number("mlp-one-layer", one.cell("ldfa B2=10")) == ""


@pytest.mark.parametrize("name", FIGURES.names())
def test_figures_show_every_run(name):
    claim = next(CLAIMS.get(c) for c in CLAIMS.names() if CLAIMS.get(c).figure == name)
    grid = table_of(claim.experiment, "cpu", {})
    if claim.experiment == "linear":
        entry = {"status": "ok", "history": [{"loss": 1.0}], "first_losses": [100.0]}
        cells = tuple(replace(c, records={0: entry, 1: entry}) for c in grid.cells) if name == "linear-rank" else ()
    else:
        cells = tuple(replace(c, records={0: record(50.0), 1: record(nan)}) for c in grid.cells)
    figure, numbers = FIGURES.get(name)(replace(grid, cells=cells))
    assert len(numbers) == 2 * sum(c.config.model_options == {} or name != "linear-rank" for c in cells)
    assert figure.axes


def test_claims_are_judged_on_the_largest_complete_scale(tmp_path):
    """Records of two scales: cpu complete, gpu begun; and a deleted record is missed."""
    small = experiment("linear")

    def write(scale, runs):
        store = Store(tmp_path / scale)
        for config in runs:
            body = {"schema": 1, "task": "linear/1", "config": asdict(config), "digest": config.digest, "status": "ok"}
            store.write(body, store.path("linear", config))

    write("cpu", small.configs("cpu"))
    write("gpu", small.configs("gpu")[:3])
    assert largest("linear", tmp_path).scale == "cpu"
    deleted = small.configs("cpu")[0]
    Store(tmp_path / "cpu").path("linear", deleted).unlink()
    results.cache_clear()
    found = results("linear", "cpu", tmp_path)
    assert found.recorded == found.planned - 1
    assert largest("linear", tmp_path).scale == "cpu"
    for path in Store(tmp_path / "cpu").paths("linear"):
        path.unlink()
    results.cache_clear()
    assert largest("linear", tmp_path).scale == "gpu"


def test_pipe_table():
    assert pipe_table(pd.DataFrame({"a": ["x"], "b": [1]})) == "| a | b |\n| --- | --- |\n| x | 1 |\n"
