"""`bench compare`: two rules on one task, paired by seed, from recorded runs only."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from bench.commands.show import duration, left_out, table
from bench.config import Config, parse
from bench.errors import UsageError, unknown
from bench.models import MODELS
from bench.records.runs import Runs
from bench.records.store import Record, Store, read_all, task_of
from bench.rules import RULES
from bench.stats import MARGIN, MIN_SEEDS, Comparison, Verdict, mean_interval, number
from bench.stats import compare as compare_by_seed
from bench.sweeps.missing import is_final
from bench.sweeps.protocols import SCALES, departures


@dataclass(frozen=True)
class Side:
    """A requested rule and its recorded runs at one scale, of any rank and on any data."""

    rule: str
    rank: str | None
    """None for the rank that is recorded."""
    recorded: tuple[Runs, ...] = ()

    def __str__(self) -> str:
        return _name(self.rule, self.rank)

    def on(self, dataset: str) -> list[Runs]:
        """The recorded runs of the requested rank."""
        return [runs for runs in self.recorded if runs.config.dataset == dataset and self._asked(runs)]

    @property
    def datasets(self) -> set[str]:
        """The datasets that those runs trained on."""
        return {runs.config.dataset for runs in self.recorded if self._asked(runs)}

    def _asked(self, runs: Runs) -> bool:
        return self.rank in (None, runs.config.rank)


def compare(rule: str, baseline: str, task: str, *, scale: str | None, dataset: str | None, results: Path) -> int:
    """Prints the two rules side by side, their difference by seed, and the verdict on it."""
    asked = _side(rule), _side(baseline)
    model = _model(task)
    if scale is not None and scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    if asked[0] == asked[1]:
        raise UsageError(f"{rule} {baseline}: both are the same; expected: two rules, or one rule at two ranks")
    refused: dict[Path, str] = {}
    scale, pair = _recorded(asked, model, [scale] if scale else SCALES[::-1], results, refused)
    where = f"{task_of(model)} at scale {scale}"
    dataset = _dataset(pair, dataset, where)
    ours, theirs = (_one_rank(side, side.on(dataset), where) for side in pair)
    shared = ours.paired_with(theirs)
    if not shared:
        seeds = "; ".join(f"{_of(runs)} has {_listed(sorted(runs.records))}" for runs in (ours, theirs))
        raise UsageError(f"{rule} {baseline}: no seed of {where} is recorded for both on the same data; {seeds}")
    left_out(refused)
    _show(ours, theirs, shared, f"{task_of(model)} on {dataset}, scale {scale}")
    return 0


def _side(text: str) -> Side:
    rule, at, rank = text.partition("@")
    if rule not in RULES.names():
        raise unknown("rule", rule, RULES.names())
    if at and not RULES.declared(rule, "ranked"):
        raise UsageError(f"{text}: rule {rule!r} has no rank; expected: {rule}")
    return Side(rule, rank if at else None)


def _model(task: str) -> str:
    model, slash, _ = task.partition("/")
    tasks = [task_of(name) for name in MODELS.names()]
    if model not in MODELS.names():
        raise unknown("task", task, tasks)
    if slash and task != task_of(model):
        raise UsageError(f"--task {task}: not the current version, so no record counts; expected: {task_of(model)}")
    return model


def _recorded(
    sides: Sequence[Side], model: str, scales: Iterable[str], results: Path, refused: dict[Path, str]
) -> tuple[str, list[Side]]:
    """The first scale at which both are recorded, with their runs; `refused` as in `read_all`."""
    there = []
    for scale in scales:
        found = [replace(side, recorded=tuple(_runs(side.rule, model, scale, results, refused))) for side in sides]
        if all(side.datasets for side in found):
            return scale, found
        names = _sorted(runs for side in found for runs in side.recorded)
        there += [f"{_listed(names)} at scale {scale}"] if names else []
    both = f"{sides[0]} and {sides[1]} are not both recorded for {task_of(model)} at the same scale in {results}"
    raise UsageError(
        f"{both}, with the protocol's settings; recorded: {'; '.join(there) or 'neither'} "
        "(`bench verify` shows records that do not count)"
    )


def _runs(rule: str, model: str, scale: str, results: Path, refused: dict[Path, str]) -> list[Runs]:
    """All valid recorded runs of a rule with its protocol's settings, grouped by rank and dataset."""
    found: dict[str, tuple[Config, dict[int, Record]]] = {}
    named = (path for path in Store(results / scale).paths() if path.name.startswith(f"{rule}-"))
    for path, record in read_all(named, refused):
        config = parse(Config, record["config"], str(path))
        if config.model == model and config.rule == rule:
            setting = replace(config, seed=0)
            _, records = found.setdefault(setting.digest, (setting, {}))
            if not is_final(records.get(config.seed)):
                records[config.seed] = record
    return [Runs(setting, records) for setting, records in found.values() if not departures(setting, scale, results)]


def _dataset(pair: Sequence[Side], dataset: str | None, where: str) -> str:
    both = sorted(pair[0].datasets & pair[1].datasets)
    if dataset is not None and dataset not in both:
        raise UsageError(
            f"--dataset {dataset}: not recorded for both rules, {where}; expected: {_listed(both) or 'none'}"
        )
    if dataset is None and len(both) != 1:
        raise UsageError(f"--dataset: {where} is recorded for both rules on {_listed(both) or 'no dataset'}; name one")
    return dataset or both[0]


def _one_rank(side: Side, found: Sequence[Runs], where: str) -> Runs:
    if len(found) > 1:
        raise UsageError(f"{side}: several ranks are recorded for {where}; expected: {_listed(_sorted(found))}")
    return found[0]


def _show(ours: Runs, theirs: Runs, shared: Sequence[int], where: str) -> None:
    columns = ["rule", ours.measure, "runs", "ok", "FLOPs per step", "FLOPs per run", "median time"]
    columns += ["reads weights", "reads targets", "feedback parameters"]
    form, signed = (".3g", "+.3g") if ours.regression else (".2f", "+.2f")
    table(where, columns, (_costs(runs, form) for runs in (ours, theirs)))
    timed = {_of(runs): runs.device for runs in (ours, theirs) if runs.device}
    if len(set(timed.values())) == 1:
        typer.echo(f"times on {next(iter(timed.values()))}")
    elif timed:
        on = "; ".join(f"{name} on {device}" for name, device in timed.items())
        typer.echo(f"times not comparable: {on}")
    one, other = ({seed: runs.values[seed] for seed in shared} for runs in (ours, theirs))
    found = compare_by_seed(one, other)
    differences = _listed(f"{one[seed] - other[seed]:{signed}} (seed {seed})" for seed in shared)
    rows = [
        ["mean, 95% t interval", number(found.interval, signed)],
        ["mean, 95% bootstrap", number(found.bootstrap, signed)],
        ["interquartile mean", format(found.iqm, signed)],
        ["by seed", differences],
    ]
    title = f"{_of(ours)} minus {_of(theirs)}, percentage points, {len(shared)} shared seeds"
    table(title, ["difference", ""], rows)
    typer.echo("no verdict: the margin applies to accuracies only" if ours.regression else _verdict(found))


def _costs(runs: Runs, form: str) -> list:
    reads_targets = {True: "yes", False: "no", None: None}[runs.reads_targets]
    flops = [f"{count:.3g}" if count else None for count in (runs.flops_step, runs.flops)]
    time = duration(runs.seconds) if runs.seconds is not None else None
    level = number(mean_interval(runs.values.values()), form)
    costs = [*flops, time, runs.reads_weights, reads_targets, runs.feedback_parameters]
    return [_of(runs), level, len(runs.records), runs.ok, *costs]


def _verdict(found: Comparison) -> str:
    n, needed = found.interval.n, found.seeds_needed
    more = f"; about {needed} seeds would settle it at this mean and spread" if needed else ""
    why = {
        Verdict.MATCHES: f"the whole t interval lies above {-MARGIN:g} point",
        Verdict.BELOW: f"the whole t interval lies below {-MARGIN:g} point",
        Verdict.INCONCLUSIVE: f"the t interval contains {-MARGIN:g} point{more}",
        Verdict.TOO_FEW: f"{n} shared seeds; a verdict needs {MIN_SEEDS}",
    }
    return f"verdict: {found.verdict} ({why[found.verdict]})"


def _of(runs: Runs) -> str:
    return _name(runs.config.rule, runs.config.rank)


def _name(rule: str, rank: str | None) -> str:
    return rule if rank is None else f"{rule}@{rank}"


def _sorted(found: Iterable[Runs]) -> list[str]:
    """Their names, short ones first, so that rank 10 comes after 4."""
    return sorted(dict.fromkeys(map(_of, found)), key=lambda name: (len(name), name))


def _listed(items: Iterable) -> str:
    return ", ".join(map(str, items))
