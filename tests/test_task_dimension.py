"""The needed rank: known synthetic ranks are found, and not given where the runs cannot tell."""

import re
from dataclasses import replace

import pytest

from replication.claims import CLAIMS
from replication.figures import FIGURES
from replication.results import results
from replication.tables import pipe_table, table_of
from replication.task_dimension import FRACTION, Task, exponents, exponents_of_needed, tasks
from replication.verdicts import ClaimVerdict

SUPPORTED, REFUTED, OPEN, TOO_FEW, NOT_RUN = ClaimVerdict
NOISE = (-0.1, 0.0, 0.1, 0.05, -0.05)


def around(mean, noise=NOISE):
    return {seed: mean + change for seed, change in enumerate(noise)}


def task(ldfa, classes=10, width=256, dataset="images"):
    return Task(classes, width, dataset, dict.fromkeys(range(5), 50.0), ldfa)


def scaled(by_classes, by_width):
    """Tasks that reach 95% at r = 2 d^a (width / 256)^b, as log r grows, and match at the rank above."""
    found = []
    for classes in (10, 20, 50):
        for width in (256, 1024):
            needed = 2 * classes**by_classes * (width / 256) ** by_width
            ldfa = {needed / 2: around(45.0), needed * 2: around(50.0), needed * 4: around(50.0)}
            found.append(task(ldfa, classes, width))
    return found


def test_r_star_is_the_smallest_rank_above_which_all_match():
    found = task({2: around(40), 5: around(48), 10: around(49.8), 20: around(49.9), 50: around(50)})
    assert (found.needed.rank, found.needed.above) == (10, 5)
    assert str(found.needed) == "r* = 10, above 5"
    gap = task({2: around(40), 5: around(49.8), 10: around(48), 20: around(49.9)})
    assert (gap.needed.rank, gap.needed.above) == (20, 10)
    assert task({2: around(40), 5: around(48)}).needed.rank is None
    open_below = task({2: around(40), 5: around(49.0), 10: around(49.9)})
    assert (open_below.needed.rank, open_below.needed.above) == (10, 2)


@pytest.mark.parametrize("noise", [[10 * change for change in NOISE], NOISE[:4]], ids=["spread", "four seeds"])
def test_r_star_is_not_given_without_power(noise):
    found = task({2: around(40), 10: around(50, noise)})
    assert found.needed.rank is None and "power" in found.needed.reason


def test_the_crossing_rank_is_interpolated_in_the_logarithm():
    found = task({2: around(45, [0] * 5), 8: around(50, [0] * 5), 32: around(49, [0] * 5)})
    assert FRACTION == 0.95
    middle = 2 * 4 ** (2.5 / 4.5)  # the isotonic fit gives 8 and 32 the mean 49.5
    assert list(found.crossing.values()) == pytest.approx([middle] * 5)
    assert task({2: around(40), 8: around(47)}).crossing == {}
    assert task({2: around(48), 8: around(50)}).crossing == {}
    assert task({2: around(40), 8: around(50, NOISE[:4])}).crossing == {}


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (0.4, 0.0), (1.0, 0.5)])
def test_exponents_are_recovered(a, b):
    by_classes, by_width = exponents(scaled(a, b))
    assert list(by_classes.values()) == pytest.approx([a] * 5, abs=1e-9)
    assert list(by_width.values()) == pytest.approx([b] * 5, abs=1e-9)
    fitted = exponents_of_needed(scaled(a, b))
    assert [interval.estimate for interval in fitted] == pytest.approx([a, b])
    assert [interval.n for interval in fitted] == [6, 6]


def test_exponents_need_two_widths_and_images_of_one_kind():
    one_width = [each for each in scaled(1, 0) if each.width == 256]
    assert exponents(one_width) == ({}, {}) and exponents_of_needed(one_width) is None
    other = task({2: around(40), 500: around(50)}, classes=200, dataset="others")
    by_classes, _ = exponents([*scaled(1, 0), other])
    assert list(by_classes.values()) == pytest.approx([1] * 5, abs=1e-9)


def grid_of(needed, level=lambda d: 40.0):
    """The grid at scale cpu as if `ldfa` reached 95% of `bp` at r = needed(d, width); groups and seeds vary."""
    grid = results("mlp-classes", "gpu")

    def accuracy(cell, group, seed):
        d = int(cell.config.dataset.partition(":")[2].partition("@")[0])
        share = 1 if cell.rank is None else 1 - 0.05 * (needed(d, cell.config.model_options["width"]) / cell.rank) ** 2
        return level(d) * share + 0.1 * ((seed * 7 + group * 3 + (cell.rank or 0)) % 5 - 2)

    def record(*where):
        return {"status": "ok", "final": {"accuracy": accuracy(*where)}}

    cells = (
        replace(
            cell,
            records={seed: record(cell, int(cell.config.dataset.partition("@")[2] or 0), seed) for seed in range(5)},
        )
        for cell in grid.cells
    )
    return replace(grid, cells=tuple(cells))


@pytest.mark.parametrize(
    ("needed", "level", "verdict"),
    [
        (lambda d, width: 0.6 * d, lambda d: 40.0, SUPPORTED),
        (lambda d, width: 7 * (d / 10) ** 0.4, lambda d: 40.0, REFUTED),
        (lambda d, width: 0.6 * d * (width / 256) ** 0.5, lambda d: 40.0, REFUTED),
        (lambda d, width: 0.1 * d, lambda d: 40.0, OPEN),
        (lambda d, width: 0.6 * d, lambda d: 250 / d, OPEN),
    ],
    ids=["follows d", "hardly follows d", "follows the width", "every rank is enough", "bp did not learn"],
)
def test_the_claim_follows_the_exponents(needed, level, verdict):
    judgement = CLAIMS.get("n3").judge(grid_of(needed, level))
    assert judgement.verdict is verdict, judgement


def test_the_claim_is_not_run_without_records_and_open_on_one_width():
    full = grid_of(lambda d, width: 0.6 * d)
    empty = replace(full, cells=tuple(replace(cell, records={}) for cell in full.cells))
    assert CLAIMS.get("n3").judge(empty).verdict is NOT_RUN
    narrow = (cell if cell.config.model_options["width"] == 256 else replace(cell, records={}) for cell in full.cells)
    assert CLAIMS.get("n3").judge(replace(full, cells=tuple(narrow))).verdict is OPEN


def test_a_seed_averages_over_the_groups_that_all_have_it():
    full = grid_of(lambda d, width: 0.6 * d)
    last = full.cell("bp", dataset="cifar100:10@9", width=256)
    cells = [replace(c, records={s: r for s, r in c.records.items() if s < 3}) if c is last else c for c in full.cells]
    found = {(each.classes, each.width): each for each in tasks(replace(full, cells=tuple(cells)))}
    groups = [c for c in cells if c.label == "bp width=256" and c.config.dataset.partition("@")[0].endswith(":10")]
    assert len(groups) == 10 and list(found[10, 256].bp) == [0, 1, 2]
    assert found[10, 256].bp == pytest.approx({s: sum(c.accuracy[s] for c in groups) / 10 for s in range(3)})
    assert len(found[100, 512].bp) == 5


def test_table_and_figure_hold_every_task():
    found = grid_of(lambda d, width: 0.6 * d)
    table = table_of(found)
    assert len(table.text) == len(found.pools) < len(found.cells) and "`ldfa r=5`" in pipe_table(table.text)
    row = table.numbers.query("classes == 10 and width == 256 and setting == 'ldfa r=5'").iloc[0]
    assert (row.ok, row.planned, row.groups) == (50, 50, 10)
    assert row.percent_of_bp == pytest.approx(100 * (1 - 0.05 * (6 / 5) ** 2), abs=0.5)
    figure, runs = FIGURES.get("mlp-classes")(found)
    points = {y for ax in figure.axes for scatter in ax.collections for y in scatter.get_offsets()[:, 1]}
    assert set(runs["ratio"]) <= points and set(runs["crossing_rank"]) <= points
    assert len(runs) == 5 * sum(pool.rank is not None for pool in found.pools)


def test_the_ranks_next_to_the_number_of_classes_are_told():
    (note,) = CLAIMS.get("n3").judge(grid_of(lambda d, width: 0.6 * d)).notes
    found = re.search(r"over (\d+) tasks, .* loses ([\d.]+) to ([\d.]+) .* by ([-+\d.]+) to ([-+\d.]+)\.$", note)
    tasks, *points = map(float, found.groups())
    assert tasks == 15 and 0 < points[2] <= points[3] < points[0] <= points[1]
