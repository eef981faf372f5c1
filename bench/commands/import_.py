"""`bench import`: imports the records made on another machine that pass the checks."""

from collections.abc import Callable, Sequence, Sized
from pathlib import Path

from bench.commands.show import console
from bench.errors import UsageError, one_line
from bench.records.store import Store
from bench.sweeps import ingest
from bench.sweeps.dvc import commit


def import_(source: Path, results: Path) -> int:
    """Copies the records of `source` that pass, prints a line for each other one; then tuned settings and DVC."""
    out = console()

    def say(line: str) -> None:
        out.print(one_line(line), soft_wrap=True)

    with ingest.unpacked(source) as folder:
        with out.status("reading") as status:
            checked = ingest.check(folder, results, lambda run: status.update(f"first steps of {run.path.name}"))
        for path, reason in checked.refused:
            say(f"refused   {path.relative_to(folder)}: {' '.join(reason.split())}")
        if checked.fit:
            ingest.copy(checked.fit)
    known = [*checked.fit, *checked.here]
    for model, scale, rule, problem in ingest.tune(known):
        chosen = f"not chosen: {problem}" if problem else "chosen"
        say(f"tuned     {model} at scale {scale}, {rule}: {chosen}")
    if Path(".dvc").is_dir():
        _record_in_dvc(known, say)
    counts: dict[str, Sized] = {"imported": checked.fit, "already here": checked.here, "refused": checked.refused}
    say("records   " + ", ".join(f"{what}: {len(records) or 'none'}" for what, records in counts.items()))
    return int(bool(checked.refused))


def _record_in_dvc(records: Sequence[ingest.Incoming], say: Callable[[str], None]) -> None:
    try:
        for folder in sorted({record.store.folder for record in records}):
            names = {record.experiment for record in records if record.store.folder == folder}
            for stage, problem in commit(Store(folder), names):
                say(f"dvc       {stage}: {f'not recorded: {problem}' if problem else 'recorded'}")
    except UsageError as error:
        say(f"dvc       {error}")
