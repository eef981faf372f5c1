"""The sections of the report after its first page: one per claim, one per experiment without a claim, the settings."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from statistics import median

import pandas as pd

from bench.config import Config
from bench.records.source import is_uncommitted
from bench.stats import MIN_SEEDS
from bench.sweeps.protocols import protocol
from replication.authors import authors_number
from replication.claims.base import Judgement, Part
from replication.compute import SHARES, compute_table, to_reach
from replication.findings import Finding, anchor
from replication.results import FOLDER, LARGEST_FIRST, Results, processor, training_accuracy
from replication.survey import has_figure
from replication.tables import pipe_table, table_of
from replication.verdicts import MEASURES, ClaimVerdict, authors_runs

SETTINGS = """\
## Settings, and where they differ from the paper's

These apply to all claims; what applies to one claim is in its section.

- Only weight matrices use feedback. Biases and batch-norm parameters are trained by their exact local gradients under
  every rule.
- At the output layer, `ldfa` learns P from the targets, as in the authors' runs; A1 also compares the option
  `output=error`, which reads no targets.
- Below scale paper, every rule was tuned on each network with the same number of trials of learning rate, decay and
  feedback rate on the validation split: one seed per trial, a third of the recorded runs' length, ranked rules at one
  rank. A rule that would gain from more tuning is understated. The trials are in the report of each scale. Scale paper
  and the linear network use the authors' rates, untuned, and the MLP a decay chosen on `bp`.
- At scale paper the MLP has dropout 0.3 before its output layer, one of the values in the authors' scripts: the one
  with which `bp`, alone and on one seed, came closest to their accuracy. N2 is judged with and without it.
- Scale `cpu` trains all but the linear networks for at most a fifth of the paper's epochs and with five seeds, to be
  repeatable in hours, and its convolutional and attention networks are slim. Short schedules favour rules that learn
  fast; feedback that has to learn first is at a disadvantage.
- A run that diverged or failed counts as chance. A claim is judged at the highest level at which all settings that its
  criterion reads have at least five seeds, regardless of the other settings of its experiment.
- A claim about rank has two baselines: backpropagation, which decides, and the same rule at full rank, as context. A
  loss relative to the same rule at full rank is due to the rank; a loss that is already there at full rank is due to
  the rule. Both parts depend on the rates, which below scale paper are tuned at one rank: a survey at the end of this
  report has `ldfa` on the MLP at other rates.

n is the number of seeds; brackets contain 95% Student t intervals over seeds, which may reach beyond what is possible,
such as a loss below 0. Batch size 0 means all examples at once.
"""

EVERY_SETTING = "Every setting"
APART = 20.0
"""Points that test accuracy may be below training accuracy before a survey says so."""
IN_THE_TABLE = {"model", "dataset", "rule", "rank", "model_options", "rule_options", "split", "seed"}
IN_THE_TABLE |= {"lr", "weight_decay", "feedback_rate", "feedback_decay", *MEASURES}
"""Settings that the table of settings omits: they are in the tables of the runs, or do not affect training."""


def settings_section(found: Iterable[Results]) -> str:
    """The settings of all runs, and those of the recorded experiments, one row for experiments that share them."""
    alike: dict[tuple[str, ...], list[str]] = {}
    for each in found:
        if each.recorded:
            names = alike.setdefault((each.experiment.model, each.scale, _data(each), _settings(each)), [])
            names.append(f"`{each.experiment.name}`")
    rows = [
        {"network": model, "scale": scale, "experiments": ", ".join(names), "data": data, "settings": settings}
        for (model, scale, data, settings), names in alike.items()
    ]
    return f"{SETTINGS}\n{pipe_table(pd.DataFrame(rows))}" if rows else SETTINGS


def claim_section(finding: Finding, start: Path, tables: str | None = None) -> str:
    """The section of a claim, with links relative to `start`; `tables` are those of its experiments, in Markdown.

    Without `tables` it links to them. A claim that is not run shows only the conditions that need no runs, if any.
    """
    claim, judgement = finding.claim, finding.judgement
    verdict = f"**{finding.verdict.capitalize()}**, level {finding.level}. " if finding.level else ""
    number = f" Its numbers: {numbers}." if (numbers := _paper_numbers(finding)) else ""
    paper, criterion = f"*The paper.* {claim.statement}{number}", f"*Criterion.* {claim.criterion}"
    lines = [f"## {finding.heading}", f"{finding.sentence} {verdict}{judgement.remark}".strip()]
    if not finding.drawn:
        lines.append(_folded("The paper's statement and the criterion", paper, criterion, tables))
        return "\n\n".join(lines) + "\n"
    parts = judgement.parts if finding.level else tuple(part for part in judgement.parts if part.level)
    lines += [f"![{claim.title}]({finding.figure(start)}.svg)", criterion, _parts("condition", judgement, parts)]
    beside = ""
    if finding.level:
        lines += [" ".join(finding.notes), *_open(judgement, finding.results)]
        beside = _parts("context, not part of the claim", judgement, judgement.context) if judgement.context else ""
    trained_on = map(_trained_on, finding.results)
    mixed = [_devices(settings) for settings in trained_on if len(settings) > 1]
    folded = paper, *claim.deviations, *mixed, beside, tables
    lines.append(_folded("The paper's statement, deviations and context", *folded))
    if tables is None:
        for other, said in zip(finding.others, finding.elsewhere, strict=True):
            lines.append(f"{said} {_link(other.page(start), finding.heading)}")
        lines.append(_elsewhere(finding.page(start), finding.heading))
    return "\n\n".join(filter(None, lines)) + "\n"


def survey_section(found: Results, start: Path, tables: str | None = None) -> str:
    """The section of an experiment that no claim is judged on, with the same arguments."""
    title, folder = found.experiment.title, Path(os.path.relpath(FOLDER / found.scale, start))
    few = all(cell.planned < MIN_SEEDS for cell in found.cells)
    unsettled = f" Fewer than {MIN_SEEDS} seeds are too few for a verdict." if few else ""
    lines = [f"## {title}", f"Beyond the paper: no claim is judged on these runs.{unsettled}"]
    if has_figure(found):
        lines.append(f"![{title}]({folder / 'figures' / found.experiment.name}.svg)")
    lines += _apart(found)
    if tables:
        lines.append(_folded(EVERY_SETTING, tables))
    else:
        lines += [*_differences(found), *_costs(found), _elsewhere(folder / "REPORT.md", title)]
    return "\n\n".join(lines) + "\n"


def _apart(found: Results) -> list[str]:
    """A sentence on the settings whose trained networks fit the training images but fail in the test, if any."""
    told = []
    for cell in found.cells:
        training, test = cell.mean(training_accuracy), cell.mean(lambda run: run["final"].get("accuracy", math.nan))
        if training is not None and test is not None and training - test > APART:
            told.append(f"`{cell.label}` {training:.1f}% and {test:.1f}%")
    words = f"Training accuracy over the last epoch is over {APART:g} points above test accuracy: {', '.join(told)}."
    return [words] if told else []


def _differences(found: Results) -> list[str]:
    """A sentence on the accuracy of each setting against bp, if the experiment has accuracies."""
    column = "minus bp (points)"
    rows = [row for row in table_of(found).text.to_dict("records") if row.get(column)]
    words = ", ".join(f"{row['setting']} {row[column]}" for row in rows)
    return [f"Test accuracy minus `bp`, in points: {words}."] if rows else []


def _costs(found: Results) -> list[str]:
    """The FLOPs of each setting up to shares of the final accuracy of bp, a sentence per share."""
    costs = [row for row in compute_table(found).text.to_dict("records") if row["setting"] != "`bp`"]
    return [
        f"{goal}: " + ", ".join(f"{row['setting']} {row[goal]}" for row in costs) + "."
        for goal in map(to_reach, SHARES)
        if costs
    ]


def _elsewhere(page: Path, heading: str) -> str:
    return f"{EVERY_SETTING}: {_link(page, heading)}"


def _link(page: Path, heading: str) -> str:
    return f"[{page}]({page}#{anchor(heading)})"


def runs_of(found: Results) -> str:
    """The number of recorded runs of an experiment, and the commands that record them."""
    name, scale = found.experiment.name, found.scale
    lost = found.recorded - sum(cell.ok for cell in found.cells)
    counted = f", {lost} of them diverged or failed (counted against the rule)" if lost else ""
    report = "make report" if scale in LARGEST_FIRST else f"python -m replication --scale {scale}"
    rerun = f"to repeat: `bench sweep {name} --scale {scale}`, then `{report}`"
    recorded = f"{found.recorded} of {found.planned} runs of `{name}` recorded at scale `{scale}`"
    dirty = sum(is_uncommitted(record["source"]) for cell in found.cells for record in cell.records.values())
    changed = f", {dirty} of them by code with uncommitted changes" if dirty else ""
    return f"*Runs.* {recorded}{changed}{counted}; {rerun}. {_devices(_trained_on(found))}".strip()


def _trained_on(found: Results) -> dict[str, list[str]]:
    """The settings of an experiment that each device trained, at least in part."""
    settings: dict[str, dict[str, None]] = {}
    for cell in found.cells:
        for record in cell.records.values():
            if "device" in record:
                settings.setdefault(processor(record["device"]).replace("cpu", "CPU"), {})[f"`{cell.label}`"] = None
    return {device: [*labels] for device, labels in settings.items()}


def _devices(by_device: Mapping[str, Sequence[str]]) -> str:
    """The devices of runs, and if there are several, which settings each trained."""
    if len(by_device) < 2:
        return "".join(f"Device: {device}." for device in by_device)
    named = (f"{device} ({', '.join(labels)})" for device, labels in by_device.items())
    return f"Devices: {'; '.join(named)}."


def _folded(head: str, *parts: str | None) -> str:
    body = "\n\n".join(part.strip("\n") for part in parts if part)
    return f"<details><summary>{head}</summary>\n\n{body}\n\n</details>"


def _paper_numbers(finding: Finding) -> str:
    """The authors' numbers for the settings that a claim names; empty if none could be recovered."""
    found = finding.results[0]
    cells = [found.cell(*setting) for setting in finding.claim.paper]
    numbers = {cell.label: authors_number(found.experiment.name, cell) for cell in cells}
    return "; ".join(f"`{label}` {number}" for label, number in numbers.items() if number)


def _open(judgement: Judgement, found: Sequence[Results]) -> list[str]:
    """The seeds that would settle an open claim, and their cost; empty if it is settled or they are not known."""
    needed = [part.seeds_needed for part in judgement.parts if part.seeds_needed]
    cells = [cell for each in found for cell in each.cells]
    seconds = [r["seconds"] for cell in cells for r in cell.records.values() if r["status"] == "ok"]
    if judgement.verdict is not ClaimVerdict.OPEN or not needed or judgement.remark or not seconds:
        return []
    more = f"{max(needed)} seeds need {max(needed) - judgement.n} more runs of each compared setting"
    minutes = max(1, median(seconds) / 60)
    return [f"*Open.* {more}, about {minutes:.0f} min each on one device."]


def _parts(head: str, judgement: Judgement, parts: Sequence[Part]) -> str:
    """One row per part, with its level if any of them has its own."""
    levels = any(part.level for part in parts)
    rows = [
        {head: part.condition, "verdict": judgement.words_of(part), "number": part.number, "n": part.n or ""}
        | ({"level": part.level or judgement.level} if levels else {})
        for part in parts
    ]
    return pipe_table(pd.DataFrame(rows)).rstrip("\n")


def _data(found: Results) -> str:
    return ", ".join(dict.fromkeys(cell.config.dataset.partition("@")[0] for cell in found.cells))


def _settings(found: Results) -> str:
    """The optimiser and the settings that are not the defaults, with those of the paper if they differ."""
    paper, authors, words = protocol(found.experiment.model, "paper").settings, authors_runs(found.experiment), []
    for setting in fields(Config):
        if setting.name in IN_THE_TABLE:
            continue
        ours = _each((cell.config for cell in found.cells), setting.name)
        default = _plain(setting.default)
        theirs = _each(authors, setting.name) if authors else _plain(paper.get(setting.name, setting.default))
        if ours != default or theirs != default or setting.name == "optimiser":
            words.append(f"{setting.name} {ours}" + ("" if ours == theirs else f" (paper: {theirs})"))
    return f"{', '.join(words)}; rates and decays per rule: see the tables' CSV files"


def _each(configs: Iterable[Config], name: str) -> str:
    return " or ".join(dict.fromkeys(_plain(getattr(config, name)) for config in configs))


def _plain(value: object) -> str:
    return " + ".join(value) or "none" if isinstance(value, list | tuple) else str(value)
