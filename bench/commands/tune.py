"""`bench tune`: the trials of rules, and the settings chosen by them."""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import typer

from bench.commands.plans import Place, estimates, usable
from bench.commands.show import left_out, table
from bench.errors import UsageError
from bench.records.index import Index
from bench.records.store import Store
from bench.sweeps.estimate import measured
from bench.sweeps.experiments import tuning_of
from bench.sweeps.missing import Plan, missing
from bench.sweeps.protocols import searches
from bench.sweeps.tune import ROUNDS, choose, finder, trials


def tune(
    model: str,
    scale: str,
    rules: Sequence[str],
    *,
    results: Path,
    place: Place,
    budget: float | None = None,
) -> int:
    """Runs the missing trials of each rule, one round for all rules after the other, and saves the best settings.

    Nothing is chosen if a trial failed or the budget ended the search. Raises `UsageError` for a budget too short for
    one trial and for a damaged settings file, before anything is trained.
    """
    started = time.monotonic()
    searches(model, scale, results)
    rules = list(dict.fromkeys(rules))
    store = Store(results / scale)
    name, find = tuning_of(model), finder(model, store)
    left_out(Index.of(store, [name]).refused)

    deadline = math.inf
    for number, size in enumerate(ROUNDS, 1):
        plans = [trials(model, scale, rule, find)[:number] for rule in rules]
        todo = missing([config for plan in plans for of_round in plan for config in of_round], store, [name])
        if not todo:
            continue
        if budget is not None and deadline == math.inf:
            of_each = measured(todo[0], place.device)
            deadline = started + usable(budget, todo, {config.digest: of_each for config in todo}, 1)
        typer.echo(f"round {number} of {len(ROUNDS)}: {len(todo)} of {size * len(rules)} trials missing")
        seconds = estimates(todo, scale, results, place.device) if place.cluster else {}
        plan = Plan(name, (), todo)
        ended = place.train([plan], store, scale, population=1, seconds=seconds, deadline=deadline)
        if failed := ended["failed"]:
            typer.echo(f"trials failed: {failed} of {len(todo)}, so nothing is chosen; the same command repeats them")
            return 1
        if left := len(todo) - ended["ok"] - ended["diverged"]:
            later = sum(ROUNDS[number:]) * len(rules)
            typer.echo(f"budget reached, {left + later} trials missing, so nothing is chosen yet")
            return 0
    status = 0
    for rule in rules:
        try:
            found = choose(model, scale, rule, find, results)
        except UsageError as error:
            typer.echo(str(error))
            status = 1
            continue
        rows = []
        for trial in found.trials:
            chosen = found.chosen.items() <= trial.items()
            rows.append([*(trial | {"accuracy": f"{trial['accuracy']:.2f}"}).values(), "chosen" if chosen else ""])
        table(f"{rule}: trials for {model} at scale {scale}", [*found.trials[0], ""], rows)
    return status
