"""What the report says in words is what its verdicts say."""

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from test_claims import around, grid_of

from replication.claims import CLAIMS
from replication.claims.base import Judgement, results_for
from replication.findings import TOPICS, Finding, anchor, judge_claims, topics
from replication.front import in_short, page_one, summary
from replication.results import results
from replication.sections import claim_section, runs_of, survey_section
from replication.verdicts import ClaimVerdict, Level

ROOT = Path(__file__).parents[1]
HOLDS, FAILS, OPEN, TOO_FEW, NOT_RUN = ClaimVerdict


def judged(name, *verdicts, level=Level.FULL):
    """A finding whose parts have made-up verdicts, one after the other, the last for all that are left."""
    claim = CLAIMS.get(name)
    found = tuple(results(each, "cpu") for each in claim.experiments)
    parts = [part for part in claim.judge(*found).parts if part.level is None]
    verdicts = (*verdicts, *[verdicts[-1]] * len(parts))[: len(parts)]
    made = tuple(
        replace(part, verdict=verdict, number="1.23 [1.0, 1.5]; about 9 seeds would", n=0 if verdict is NOT_RUN else 5)
        for part, verdict in zip(parts, verdicts, strict=True)
    )
    return Finding(name, claim, found, Judgement(made, level=level))


@pytest.mark.parametrize("name", CLAIMS.names())
def test_each_verdict_has_a_sentence_of_its_own(name):
    """Written for the verdict: none is shown for another, and a claim in part is told with what fails of it."""
    claim, said = CLAIMS.get(name), {}
    for verdict in ClaimVerdict:
        finding = judged(name, verdict)
        assert finding.verdict_of is verdict
        said[verdict] = finding.sentence
    assert len(set(said.values())) == len(ClaimVerdict)
    assert said[HOLDS] == claim.finds
    assert said[TOO_FEW] == f"Too few seeds to say {claim.asks}." and said[NOT_RUN] == f"Not run yet: {claim.asks}."
    assert said[OPEN].startswith(f"It is open {claim.asks}: it is not settled whether ")
    assert said[OPEN].endswith("1.23 [1.0, 1.5]).")
    refuted = f"The paper says: {claim.statement} Here this does not hold: "
    for number, part in enumerate(judged(name, FAILS).judgement.parts):
        for clause in (part.fails, part.holds):
            assert clause and (clause[0].islower() or clause[0] in "`P")
        alone = judged(name, *[HOLDS] * number, FAILS, HOLDS)
        assert alone.sentence.startswith(f"{refuted}{part.fails}")
        assert alone.sentence not in (claim.finds, said[OPEN])


def test_a_claim_that_fails_in_part_says_what_holds():
    beats = "but it beats a network of width 64 trained by backpropagation."
    assert judged("n2", FAILS, HOLDS).sentence.endswith(
        "Here this does not hold: with the errors of all layers cut to 10 dimensions, the MLP loses more than a point, "
        f"{beats}"
    )
    opened = judged("n2", OPEN, HOLDS).sentence
    assert opened.endswith(f"whether the MLP stays within a point of backpropagation (1.23 [1.0, 1.5]), {beats}")
    sentence = judged("l2", HOLDS, FAILS, HOLDS, FAILS, HOLDS, FAILS, HOLDS, FAILS).sentence
    assert "random feedback, fixed or with Q trained, finds correct solutions, on the mean over" in sentence
    assert sentence.endswith("but at lower ranks it settles on wrong ones.")
    assert judged("s1", HOLDS, HOLDS, OPEN, FAILS).sentence.endswith(
        "the errors of `ldfa-hebb` do not align with those of backpropagation, P of `ldfa-hebb` loses more than half "
        "of the error's energy, and `ldfa-hebb` loses more than a point to the rule that reads the weights, but the "
        "errors of `ldfa` align with those of backpropagation, and P of `ldfa` keeps more than half of the error's "
        "energy on the mean over all layers."
    )


def test_the_committed_words_are_those_of_the_committed_verdicts():
    readme, report = ((ROOT / name).read_text() for name in ("README.md", "REPORT.md"))
    table = pd.read_csv(ROOT / "results/claims.csv", keep_default_na=False).set_index("claim")
    assert set(table.index) == {name.upper() for name in CLAIMS.names()}
    for name, row in table.iterrows():
        label = f"[{name}](#{anchor(f'{name}: {CLAIMS.get(name.lower()).title}')})"
        named = f"{row['sentence']} ({label}: **{row['verdict']}**, level {row['level']})"
        shown = f"**{row['verdict']}**, level {row['level']}" if row["level"] else row["verdict"]
        assert shown in readme.partition(f"[**{name}**]")[2].partition("\n")[0]
        assert (named in report) == (row["verdict"] != "not run")
        assert f"\n{row['sentence']}" in report[report.index(f"## {name}: ") :]


def test_a_section_names_the_devices_if_several_trained_its_runs():
    grid = grid_of("mlp-ablation", "cpu", {"ldfa r=10": around(58), "fa-lowrank r=10": around(57)})
    gpu, cpu = {"type": "cuda", "name": "NVIDIA H200"}, {"type": "cpu", "name": "a Xeon"}
    for cell in grid.cells:
        for made in cell.records.values():
            made["device"] = gpu if cell.config.rule == "fa-lowrank" else cpu
    named = "Devices: CPU (`ldfa r=10`); NVIDIA H200 (`fa-lowrank r=10`)."
    finding = replace(judged("a1", OPEN), results=(grid,))
    assert f"\n{named}\n" in claim_section(finding, Path()) and runs_of(grid).endswith(named)


def test_a_claim_judged_at_several_levels_tells_all_its_verdicts():
    note = "At full rank, nothing is lost."
    other = judged("n2", OPEN, HOLDS)
    other = replace(other, judgement=replace(other.judgement, notes=(note, "And another.")))
    finding = replace(judged("n2", FAILS, HOLDS, level=Level.PAPER), others=(other,))
    section = claim_section(finding, Path())
    assert f"At level full it is inconclusive: {other.deciding}. {note} And another. [results/cpu/REPORT.md]" in section
    page = page_one([finding], Path())
    assert f"At level full it is inconclusive: {other.deciding}.\n" in page and note not in page
    assert "| **not supported**, level paper; **inconclusive**, level full |" in in_short([finding])


def test_the_other_verdicts_of_a_claim_are_of_other_levels():
    for finding in judge_claims(ROOT / "results"):
        levels = [finding.level, *(other.level for other in finding.others)]
        assert len(levels) == len(set(levels)) and all(other.settled for other in finding.others)
        assert finding.name != "n2" or levels == ["paper", "full"]


def test_an_experiment_without_a_claim_says_what_is_lost_and_what_training_costs():
    found = grid_of("compute", "cpu", {"bp": around(59), "ldfa r=10": around(58), "kp": around(20)})
    section = survey_section(found, Path())
    assert "\nTest accuracy minus `bp`, in points: `kp` -39.00 [-39.00, -39.00], `ldfa r=10` -1.00 [" in section
    assert "\nFLOPs to 90% of bp's accuracy, relative to bp: `kp` ≥ 2.00 (5 of 5 never), `ldfa r=10` 1.16 [" in section
    assert not {"FLOPs", "minus"} & set(survey_section(found, Path(), "a table").split())


def test_an_experiment_without_a_claim_names_what_fits_the_training_images_alone():
    found = grid_of("compute", "cpu", {"bp": around(59), "kp": around(60)})
    assert "Training accuracy" not in survey_section(found, Path())
    *others, worst = [cell for cell in found.cells if cell.records]
    records = {seed: run | {"final": run["final"] | {"accuracy": 30.0}} for seed, run in worst.records.items()}
    found = replace(found, cells=(*others, replace(worst, records=records)))
    both = f"`{worst.label}` {'59.0' if worst.label == 'bp' else '60.0'}% and 30.0%"
    told = f"Training accuracy over the last epoch is over 20 points above test accuracy: {both}."
    assert f"\n{told}\n" in survey_section(found, Path())


def made_up():
    verdicts = [HOLDS, FAILS, OPEN, TOO_FEW, NOT_RUN]
    names = ["a1", *(name for topic in TOPICS.values() for name in topic)]
    found = [judged(name, verdicts[place % 5]) for place, name in enumerate(names)]
    return [finding for _, group in topics(found) for finding in group]


def test_page_one_sorts_the_claims_by_what_is_known_of_them():
    page = page_one(made_up(), ROOT)
    heads = ["What held", "What did not hold", "What is open", "What was easy"]
    places = [page.index(f"**{head}.**") for head in heads]
    assert places == sorted(places)
    for finding in made_up():
        place = {HOLDS: 0, FAILS: 1}.get(finding.verdict_of, 2)
        inside = page[places[place] : places[place + 1]]
        shown = finding.label if finding.verdict_of is NOT_RUN else f"{finding.sentence} {finding.named}"
        assert shown in inside
    ids = re.findall(r"^\| \[\*\*(\w+)\*\*\]", page, flags=re.MULTILINE)
    assert ids == ["L1", "L2", "L3", "N1", "N2", "N3", "N4", "C1", "T1", "E1", "S1", "H1", "R1", "A1"]


def test_the_table_shows_one_number_of_a_part_with_the_claims_verdict():
    finding = judged("n1", HOLDS, FAILS, HOLDS)
    (row,) = summary([finding], ROOT).text.to_dict("records")
    assert row["verdict"] == "**not supported**"
    assert row["deciding number"].startswith("ldfa B2 (third layer) r = 10 minus bp")
    assert row["deciding number"].endswith(": 1.23 [1.0, 1.5]")
    (waiting,) = summary([judged("n1", NOT_RUN)], ROOT).text.to_dict("records")
    assert (waiting["verdict"], waiting["level"], waiting["deciding number"]) == ("not run", "", "")


def test_the_readme_has_a_row_per_claim_in_the_papers_order():
    tally, _, _, _, *rows = in_short(made_up()).splitlines()
    asked, verdicts = tally.partition(".")[0].split(": ")
    assert asked == "Of 13 claims of the paper and 1 beyond it (A1)"
    assert verdicts == "3 supported, 3 not supported, 3 inconclusive, 3 too few seeds, 2 not run"
    for finding, row in zip(made_up(), rows, strict=True):
        label, statement, verdict, seen = row.removeprefix("| ").removesuffix(" |").split(" | ")
        assert f"[**{finding.label}**](REPORT.md#{finding.anchor})" in label and statement == finding.claim.statement
        assert finding.verdict in verdict and seen == finding.seen


def test_what_was_seen_of_a_claim_is_what_fails_or_is_not_settled_and_what_holds():
    assert judged("n2", HOLDS, HOLDS).seen == CLAIMS.get("n2").finds
    assert judged("n2", FAILS, HOLDS).seen.endswith(", but it beats a network of width 64 trained by backpropagation.")
    assert judged("n2", OPEN, HOLDS).seen.startswith(
        "It is not settled whether the MLP stays within a point of backpropagation (1.23 [1.0, 1.5]), but it beats"
    )
    seen = judged("n2", OPEN, OPEN).seen
    assert seen.count(" whether ") == 2 and ", and whether it beats" in seen and " but " not in seen
    assert judged("n2", NOT_RUN).seen == ""


def test_reduced_runs_never_support_a_claim():
    finding = judged("c1", HOLDS, level=Level.REDUCED)
    assert finding.named == "([C1](#c1-cnn-low-rank-in-every-layer): **holds at reduced scale**, level reduced)"


def test_links_to_sections_and_figures_are_there():
    report = (ROOT / "REPORT.md").read_text()
    for finding in (Finding(n, CLAIMS.get(n), results_for(CLAIMS.get(n)), Judgement(())) for n in CLAIMS.names()):
        assert f"(#{finding.anchor})" in report and f"## {finding.heading}\n" in report
    assert judged("n3", HOLDS).anchor == "n3-mlp-rank-needed-over-the-number-of-classes"
    for target in re.findall(r"\]\(([^)#:]+)\)", report + (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target


def test_a_claim_that_is_not_run_says_what_it_asks_and_how_it_is_judged():
    text = claim_section(judged("t1", NOT_RUN), ROOT, "")
    assert "![" not in text and "Not run yet: whether" in text
    assert all(words in text for words in (CLAIMS.get("t1").criterion, CLAIMS.get("t1").statement))
