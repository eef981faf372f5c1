"""`bench compare`: what it prints is what the records say; what it cannot compare it refuses in a line."""

import json
import re

import pytest

from bench.cli import main
from bench.records.index import Index
from bench.records.store import Store, failed_record, seal
from bench.stats import bootstrap_interval, compare, interquartile_mean, mean_interval, number
from bench.sweeps.protocols import configure

BP = (60.0, 61.0, 60.4, 60.2, 59.9)
LDFA = (59.8, 60.9, 60.0, 60.3, 59.6)


def config(rule, seed, scale="cpu", dataset="cifar10", **settings):
    return configure("mlp", rule, scale, dataset=dataset, choose=str, seed=seed, **settings)


@pytest.fixture
def recorded(tmp_path, made_up):
    """Two rules over five seeds, the ranked one at two ranks; and runs that are not those of the protocol."""
    paths = {}
    for seed, (bp, ldfa) in enumerate(zip(BP, LDFA, strict=True)):
        paths["bp", seed] = made_up(config("bp", seed), bp)
        paths["ldfa", seed] = made_up(config("ldfa", seed, rank="10"), ldfa)
        made_up(config("ldfa", seed, rank="1/4"), 40.0)
        made_up(config("bp", seed, model_options={"width": 64}), 99.0)
        made_up(config("bp", seed, split="validation"), 99.0, experiment="tune-mlp")
    return paths


@pytest.fixture
def bench(recorded, tmp_path, capsys):
    """Runs `bench compare` on those records: its exit status, output and errors, spaces and lines made one space."""

    def run(*arguments):
        status = main(["compare", *arguments, "--results", str(tmp_path)])
        return status, *(" ".join(re.sub(r"[┃│┏━┓┡╇┩└─┴┘┳]", " ", text).split()) for text in capsys.readouterr())

    return run


def test_both_rules_and_their_difference(bench):
    status, out, err = bench("ldfa@10", "bp", "--task", "mlp")
    assert (status, err) == (0, "")
    differences = [a - b for a, b in zip(LDFA, BP, strict=True)]
    assert out.startswith("mlp/1 on cifar10, scale cpu")
    for values in (LDFA, BP):
        assert f"{number(mean_interval(values))} 5 5 1e+03 1.17e+07 62.0 s no yes 5" in out
    assert "ldfa@10 minus bp, percentage points, 5 shared seeds" in out
    assert f"t interval {number(mean_interval(differences), '+.2f')} " in out
    assert f"bootstrap {number(bootstrap_interval(differences), '+.2f')} " in out
    assert f"interquartile mean {interquartile_mean(differences):+.2f} " in out
    assert "-0.20 (seed 0), -0.10 (seed 1), -0.40 (seed 2), +0.10 (seed 3), -0.30 (seed 4)" in out
    assert out.endswith("verdict: matches (the whole t interval lies above -1 point)")


def test_times_are_shown_with_their_device_and_two_devices_are_named(bench, recorded):
    one = json.loads(recorded["bp", 0].read_text())["device"]["name"]
    assert f"times on {one} " in bench("ldfa@10", "bp", "--task", "mlp")[1]
    for seed in range(5):
        path = recorded["bp", seed]
        record = json.loads(path.read_text())
        record["device"]["name"] = "another"
        path.write_text(json.dumps(record | {"seal": seal(record)}))
    assert f"times not comparable: ldfa@10 on {one}; bp on another " in bench("ldfa@10", "bp", "--task", "mlp")[1]


@pytest.mark.parametrize(
    ("by", "verdict"),
    [(-3.0, "below (the whole t interval lies below -1 point)"), (-0.7, "inconclusive (the t interval contains -1")],
)
def test_the_margin_decides(bench, made_up, by, verdict):
    for seed, accuracy in enumerate(LDFA):
        made_up(config("ldfa", seed, rank="10"), accuracy + by)
    _, out, _ = bench("ldfa@10", "bp", "--task", "mlp/1")
    assert f"verdict: {verdict}" in out
    needed = compare(dict(enumerate(a + by for a in LDFA)), dict(enumerate(BP))).seeds_needed
    assert (f"about {needed} seeds would settle it" in out) == (by == -0.7)


def test_few_seeds_are_too_few_and_only_shared_ones_count(bench, recorded):
    recorded["bp", 4].unlink()
    status, out, _ = bench("ldfa@10", "bp", "--task", "mlp")
    assert status == 0 and "4 shared seeds" in out and "(seed 4)" not in out
    assert out.endswith("verdict: too few seeds (4 shared seeds; a verdict needs 5)")


def test_a_diverged_run_counts_as_chance(bench, made_up):
    made_up(config("ldfa", 0, rank="10"), None)
    _, out, _ = bench("ldfa@10", "bp", "--task", "mlp")
    assert "-50.00 (seed 0)" in out and f"{number(mean_interval([10.0, *LDFA[1:]]))} 5 4 " in out


def test_a_run_that_ended_somewhere_counts_rather_than_a_failure_elsewhere(bench, tmp_path):
    task = ("ldfa@10", "bp", "--task", "mlp")
    before, store = bench(*task), Store(tmp_path / "cpu")
    for seed in range(5):
        failed = failed_record(config("bp", seed), "alignment", "cpu", "cpu", "lost")
        store.write(failed, store.path("alignment", config("bp", seed)))
        assert store.find(config("bp", seed), ["alignment", "run"])["status"] == "ok"
        index = Index.of(store, ["alignment", "run"])
        assert index.status(config("bp", seed), ["alignment", "run"]) == "ok"
        assert index.status(config("bp", seed), ["alignment"]) == "failed"
    assert bench(*task) == before


def test_the_largest_scale_that_has_both(bench, made_up):
    made_up(config("bp", 0, "paper"), 70.0, scale="paper")
    assert "scale cpu" in bench("ldfa@10", "bp", "--task", "mlp")[1]
    made_up(config("ldfa", 0, "paper", rank="10"), 70.0, scale="paper")
    assert "scale paper" in bench("ldfa@10", "bp", "--task", "mlp")[1]
    assert "scale cpu" in bench("ldfa@10", "bp", "--task", "mlp", "--scale", "cpu")[1]


def test_a_rank_may_be_left_out_where_one_is_recorded(bench, made_up):
    for seed in range(5):
        made_up(config("ldfa-q", seed, rank="4"), 50.0)
    assert "ldfa-q@4 minus ldfa@1/4" in bench("ldfa-q", "ldfa@1/4", "--task", "mlp")[1]


def rewrite(path, **changes):
    record = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(record | {"seal": seal(record)}))


def stale(recorded):
    for seed in range(5):
        rewrite(recorded["bp", seed], task="mlp/0")


def unpaired(recorded):
    for seed in range(5):
        recorded["ldfa" if seed < 2 else "bp", seed].unlink()


def other_data(recorded):
    for seed in range(5):
        rewrite(recorded["bp", seed], data={"name": "cifar10", "sha256": {"train": "b"}})


@pytest.mark.parametrize(
    ("arguments", "damage", "words"),
    [
        (["ldfq", "bp", "--task", "mlp"], None, ["'ldfq'", "did you mean 'ldfa-q'"]),
        (["ldfa", "bp", "--task", "mpl"], None, ["unknown task 'mpl'", "did you mean 'mlp/1'"]),
        (["ldfa@10", "bp", "--task", "mlp/2"], None, ["--task mlp/2", "expected: mlp/1"]),
        (["bp@10", "ldfa@10", "--task", "mlp"], None, ["bp@10", "has no rank"]),
        (["ldfa", "bp", "--task", "mlp"], None, ["several ranks", "expected: ldfa@10, ldfa@1/4"]),
        (["ldfa@3", "bp", "--task", "mlp"], None, ["ldfa@3 and bp", "recorded: bp, ldfa@10, ldfa@1/4 at scale cpu"]),
        (["bp", "bp", "--task", "mlp"], None, ["both are the same"]),
        (["ldfa@10", "bp", "--task", "mlp", "--scale", "huge"], None, ["unknown scale 'huge'", "quick, cpu"]),
        (["ldfa@10", "bp", "--task", "mlp", "--scale", "gpu"], None, ["ldfa@10 and bp", "recorded: neither"]),
        (["ldfa@10", "bp", "--task", "mlp", "--dataset", "digits"], None, ["--dataset digits", "expected: cifar10"]),
        (["ldfa@10", "bp", "--task", "cnn"], None, ["not both recorded for cnn/1"]),
        (["ldfa@10", "bp", "--task", "mlp"], stale, ["not both recorded for mlp/1", "bench verify"]),
        (["ldfa@10", "bp", "--task", "mlp"], unpaired, ["no seed", "ldfa@10 has 2, 3, 4; bp has 0, 1"]),
        (["ldfa@10", "bp", "--task", "mlp"], other_data, ["no seed", "same data"]),
        (["ldfa@10", "--task", "mlp"], None, ["BASELINE"]),
    ],
)
def test_what_cannot_be_compared_is_one_line(recorded, tmp_path, capsys, arguments, damage, words):
    if damage:
        damage(recorded)
    assert main(["compare", *arguments, "--results", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert all(word in err for word in words), err


def test_several_datasets_need_a_name(bench, made_up):
    for rule, rank in (("bp", None), ("ldfa", "10")):
        made_up(config(rule, 0, rank=rank, dataset="tiny-imagenet-32"), 55.0)
    status, _, err = bench("ldfa@10", "bp", "--task", "mlp")
    assert status == 2 and "cifar10, tiny-imagenet-32; name one" in err
    assert "on tiny-imagenet-32," in bench("ldfa@10", "bp", "--task", "mlp", "--dataset", "tiny-imagenet-32")[1]
