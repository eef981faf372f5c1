"""Whatever is read, from a user, a file or another machine, gives what it should be or one line of error; checkpoints
have their own tests."""

import io
import json
import tarfile
import zipfile
from contextlib import contextmanager
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bench.commands.run import override
from bench.config import Config, parse, parse_yaml
from bench.data import parse_name, sizes
from bench.errors import UsageError
from bench.layers.ranks import parse_ranks
from bench.records.store import InvalidRecord, Store, failed_record, read, seal
from bench.sweeps.archives import MEMBER
from bench.sweeps.experiments import experiment
from bench.sweeps.ingest import unpacked
from bench.training.augment import augmentation

CONFIG = Config(model="mlp", dataset="digits", rule="ldfa", rank="2", model_options={"width": 8})
ODD = st.sampled_from(
    ["nan", "inf", "-1", "0", "1e999", "2001-99-99", "!!bool x", "&a [*a]",
     "0x" + 99 * "f", 5000 * "1", "[[[[", "{1: 2}",
     "\x00", "\x1b[2J", "\ud800", "../..", "/", "null", "true", "''", "٣", "=", ",", ":", "@", "<<: *a"]
)  # fmt: skip
TEXTS = st.one_of(ODD, st.text(max_size=20), st.lists(st.one_of(ODD, st.text(max_size=5)), max_size=4).map("".join))
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([10**400, -(2**63), 2**63 - 1]), st.booleans())
JSON = st.recursive(
    st.one_of(st.none(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)


@contextmanager
def sound_or(refusal):
    """What is inside holds, or a refusal comes in one line."""
    try:
        yield
    except refusal as error:
        message = str(error)
        if not message or "\n" in message or len(message) > 3000:
            raise AssertionError(f"{len(message)} characters: {message[:300]}") from error


# Configurations


def is_sound(config):
    """What a record needs of it."""
    try:
        again = parse(Config, json.loads(json.dumps(asdict(config), allow_nan=False)), "again")
    except UsageError as error:
        raise AssertionError("a record of it is not read") from error
    assert again == config and again.digest == config.digest
    path = Store(Path("results/quick")).path("run", config)
    assert len(path.parts) == 5 and ".." not in path.parts and path.name.isascii() and len(path.name) < 240
    return True


@given(key=st.one_of(st.sampled_from(list(Config.__dataclass_fields__)), TEXTS), value=JSON)
@example(key="lr", value=10**400)
def test_any_value_of_a_configuration(key, value):
    with sound_or(UsageError):
        config = parse(Config, asdict(CONFIG) | {key: value}, "configuration")
        assert is_sound(config)


KEYS = ["lr", "epochs", "augment", "clip", "precision", "model_options.width", "rule_options.output", "model_options"]


@given(key=st.one_of(st.sampled_from(KEYS), TEXTS), value=TEXTS)
def test_any_assignment(key, value):
    with sound_or(UsageError):
        config = override(CONFIG, [f"{key}={value}"])
        assert is_sound(config)


@given(text=TEXTS)
def test_any_augmentation(text):
    for spec in (text, f"rotate:{text}", f"crop:{text}"):
        with sound_or(UsageError):
            found = augmentation(spec)
            assert all(0 < abs(value) < float("inf") or value == 0 for value in vars(found).values())


LABELS = ["B1", "B2", "B3"]


@given(rank=st.one_of(TEXTS, st.from_regex(r"[0-9./]{1,30}"), TEXTS.map("B1={}".format), TEXTS.map("B1=2,{}".format)))
@example(rank=5000 * "1")
def test_any_rank(rank):
    with sound_or(UsageError):
        ranks = parse_ranks(rank, LABELS)
        assert list(ranks) == LABELS
        for found in ranks.values():
            assert found is None or (isinstance(found, int) and found >= 1) or 0 < Fraction(found) <= 1


@given(name=st.one_of(TEXTS, TEXTS.map("digits:{}".format), st.from_regex(r"digits:[0-9@]{1,20}", fullmatch=True)))
@example(name="digits:" + 5000 * "1")
def test_any_name_of_a_dataset(name):
    with sound_or(UsageError):
        base, part = parse_name(name)
        found = sizes(name)
        assert part is None or (part.size >= 1 and part.group >= 0)
        assert name == (base if part is None else f"{base}:{part}") and found.train >= 0


# Files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("folder")


GRID = {"seeds": 1, "runs": [{"rule": "ldfa", "rank": ["1", "2"]}, {"rule": "bp", "lr": 0.1}], "datasets": ["digits"]}
EXPERIMENT = {"title": "A trial", "model": "mlp", "scales": {"quick": GRID}, "reuses": []}


def replaced(content, path, value):
    """`content` with another value at a place, which `path` leads to as far as it goes."""
    if not path or not isinstance(content, dict | list) or not content:
        return value
    step, *rest = path
    if isinstance(content, list):
        content = dict(enumerate(content))
        content[step % len(content)] = replaced(content[step % len(content)], rest, value)
        return list(content.values())
    key = list(content)[step % len(content)]
    return content | {key: replaced(content[key], rest, value)}


PATHS = st.lists(st.integers(0, 20), max_size=6)


@st.composite
def damaged(draw, content):
    """Bytes with some cut out and others in their place."""
    start = draw(st.integers(0, len(content)))
    end = min(len(content), start + draw(st.integers(0, 40)))
    return content[:start] + draw(st.binary(max_size=20)) + content[end:]


@given(
    content=st.one_of(
        st.binary(max_size=50),
        damaged(yaml.safe_dump(EXPERIMENT).encode()),
        st.tuples(PATHS, JSON).map(lambda at: json.dumps(replaced(EXPERIMENT, *at)).encode()),
    )
)
def test_any_experiment_file(content, folder):
    (folder / "trial.yaml").write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_EXPERIMENTS", str(folder))
        with sound_or(UsageError):
            configs = experiment("trial").configs("quick")
            assert configs and all(map(is_sound, configs))


@given(text=TEXTS)
def test_any_yaml(text):
    with sound_or(UsageError):
        parse_yaml(text, "text")


RECORD = failed_record(CONFIG, "run", "quick", "cpu", "lost") | {
    "status": "ok",
    "data": {"name": "digits", "sha256": {"train": "0", "test": "1"}},
    "rule": {"reads_weights": "no", "reads_targets": True},
    "notes": [],
    "first_losses": [2.3, 2.2],
    "history": [{"epoch": 1, "loss": 2.0, "accuracy": 10.0}],
    "final": {"loss": 2.0, "accuracy": 10.0},
    "trained": {},
    "seconds": 1.0,
    "population": 1,
    "parameters": {"forward": 10, "feedback": 3},
    "flops_step": 10,
    "peak_memory_bytes": 10,
}


def sealed(content):
    """Sealed as an attacker would, where it can be."""
    if not isinstance(content, dict):
        return content
    try:
        return content | {"seal": seal(content)}
    except (TypeError, ValueError):
        return content


@given(
    content=st.one_of(
        st.binary(max_size=50),
        damaged(json.dumps(sealed(RECORD)).encode()),
        JSON.map(lambda content: json.dumps(content).encode()),
        st.tuples(PATHS, JSON).map(lambda at: json.dumps(sealed(replaced(RECORD, *at))).encode()),
        st.sampled_from(sorted(RECORD)).map(
            lambda key: json.dumps(sealed({k: v for k, v in RECORD.items() if k != key})).encode()
        ),
    )
)
def test_any_record(content, folder):
    path = folder / f"{CONFIG.slug}.json"
    path.write_bytes(content)
    with sound_or(InvalidRecord):
        record = read(path)
        assert record["config"] == asdict(CONFIG) and record["seal"] == seal(record)


# Archives


def packed(form):
    """A small archive of a results folder."""
    names = [f"out/quick/records/run/{replace(CONFIG, seed=seed).slug}.json" for seed in range(2)]
    names += ["out/quick/checkpoints/run.pt", "out/quick/tuned/mlp.json"]
    file = io.BytesIO()
    if form == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                archive.writestr(name, 100 * name)
    else:
        with tarfile.open(fileobj=file, mode=form, format=tarfile.PAX_FORMAT) as archive:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = 100 * len(name)
                member.pax_headers = {"comment": "ü"}
                archive.addfile(member, io.BytesIO(100 * name.encode()))
    return file.getvalue()


ARCHIVES = {form: packed(form) for form in ("w", "w:gz", "zip")}


@pytest.mark.parametrize("form", ARCHIVES)
@given(data=st.data())
def test_any_archive(form, data, folder):
    content = data.draw(damaged(ARCHIVES[form]))
    path = folder / "archive.bin"
    path.write_bytes(content)
    before = sorted(folder.iterdir())
    with sound_or(UsageError), unpacked(path) as inside:
        found = [file.relative_to(inside).as_posix() for file in inside.rglob("*") if not file.is_dir()]
        assert found and all(MEMBER.fullmatch(name) for name in found)
        assert not any(file.is_symlink() for file in inside.rglob("*"))
    assert sorted(folder.iterdir()) == before


@given(
    name=TEXTS, kind=st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE]), link=TEXTS
)
def test_any_member_of_an_archive(name, kind, link, folder):
    assume("\x00" not in name + link)
    path = folder / "archive.bin"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogatepass") as archive:
        for place in (name, f"out/quick/records/{name}/x.json", f"{name}/quick/records/run/y.json"):
            member = tarfile.TarInfo(place)
            member.type, member.linkname = kind, link
            archive.addfile(member, io.BytesIO(b""))
        archive.addfile(tarfile.TarInfo("quick/records/run/z.json"), io.BytesIO(b""))
    with sound_or(UsageError), unpacked(path) as inside:
        assert all(MEMBER.fullmatch(f.relative_to(inside).as_posix()) for f in inside.rglob("*") if not f.is_dir())
