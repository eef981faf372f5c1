"""Archives that attack: an import reads records out of them and writes nothing else; one line says what is wrong."""

import gzip
import io
import json
import os
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

import bench.sweeps.archives
from bench.cli import main
from bench.config import Config
from bench.errors import UsageError
from bench.records.store import Store, failed_record
from bench.sweeps.ingest import unpacked

CONFIG = Config(model="mlp", dataset="digits", rule="bp")
PLACE = f"out/quick/records/run/{CONFIG.slug}.json"


@pytest.fixture
def record(tmp_path):
    """The bytes of a record, which an import refuses as failed: so it was read."""
    store = Store(tmp_path / "made")
    path = store.path("run", CONFIG)
    store.write(failed_record(CONFIG, "run", "quick", "cpu", "lost"), path)
    content = path.read_bytes()
    shutil.rmtree(tmp_path / "made")
    return content


@pytest.fixture
def bring(tmp_path, monkeypatch, capsys):
    """Imports an archive, in an empty folder; returns the exit status and what was printed.

    Whatever is written must be below that folder, and it is checked that nothing is.
    """
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def bring(archive):
        before = sorted(tmp_path.rglob("*"))
        status = main(["import", str(archive)])
        assert sorted(tmp_path.rglob("*")) == before
        return status, "".join(capsys.readouterr())

    return bring


def one_line(said):
    return said.count("\n") == 1 and said.rstrip("\n").isprintable() and said.startswith("error: ")


def header(name, kind=tarfile.REGTYPE, link="", **fields):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    for key, value in fields.items():
        setattr(member, key, value)
    return member


def tar(path, *members, mode="w"):
    """Members are headers with their content."""
    with tarfile.open(path, mode) as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_a_chain_of_links_leads_nowhere(bring, record, tmp_path):
    """Links of which each stays inside as it is read, and the last name leaves all the same (CVE-2025-4517)."""
    long = "d" * 247
    members, place = [], ""
    for step in "abcdefghijklmnop":
        members.append((header(place + long, tarfile.DIRTYPE, mode=0o755), b""))
        members.append((header(place + step, tarfile.SYMTYPE, long), b""))
        place += long + "/"
    chain = "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p"
    members.append((header(f"{chain}/{'l' * 254}", tarfile.SYMTYPE, "../" * 16), b""))
    outside = f"{chain}/{'l' * 254}/.." + "/.." * 10 + str(tmp_path)
    members.append((header("escape", tarfile.SYMTYPE, outside), b""))
    members.append((header("escape/evil"), b"evil"))
    members.append((header(PLACE), record))
    status, said = bring(tar(tmp_path / "x.tar", *members))
    assert not (tmp_path / "evil").exists() and status == 1 and "failed, so it has no result" in said


def test_a_hard_link_overwrites_nothing(bring, record, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    members = [
        (header("up", tarfile.SYMTYPE, "."), b""),
        (header("link", tarfile.LNKTYPE, str(victim)), b""),
        (header("link"), b"evil"),
        (header(PLACE), record),
    ]
    status, said = bring(tar(tmp_path / "x.tar", *members))
    assert victim.read_text() == "mine" and status == 1 and "failed, so it has no result" in said


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_a_record_that_is_no_file_is_refused(kind, bring, tmp_path):
    status, said = bring(tar(tmp_path / "x.tar", (header(PLACE, kind, "/etc/passwd"), b"")))
    assert status == 2 and one_line(said) and "a link or a device" in said


@pytest.mark.parametrize(
    "name", ["/quick/records/run/x.json", "../quick/records/run/x.json", "out/quick/records/../x.json",
             "out/../../quick/records/run/x.json", "out/quick/records/run/..json", "out/quick/records/run/.x.json",
             "out/quick/checkpoints/x.pt", "quick/records/run/x.json/y", "out\\quick\\records\\run\\x.json"]
)  # fmt: skip
@pytest.mark.parametrize("form", ["tar", "zip"])
def test_other_names_are_not_read(form, name, record, tmp_path):
    path = tmp_path / f"x.{form}"
    if form == "tar":
        tar(path, (header(name), record), (header(PLACE), record))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, record)
            archive.writestr(PLACE, record)
    with unpacked(path) as folder:
        written = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
        assert written == [PLACE.removeprefix("out/")]


def test_tuned_settings_are_read_beside_records(record, tmp_path):
    path = tar(
        tmp_path / "x.tgz", (header("./o/gpu/tuned/mlp.json"), b"{}"), (header("./" + PLACE[4:]), record), mode="w:gz"
    )
    with pytest.raises(UsageError, match="several results folders"), unpacked(path):
        pass
    path = tar(tmp_path / "x.tgz", (header("./quick/tuned/mlp.json"), b"{}"), (header(PLACE[4:]), record), mode="w:gz")
    with unpacked(path) as folder:
        assert (folder / "quick/tuned/mlp.json").read_bytes() == b"{}"


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_size_and_number_are_bounded(form, bring, tmp_path, monkeypatch):
    def packed(*contents):
        path = tmp_path / f"x.{form}"
        names = [PLACE, *(f"other-{n}" for n in range(len(contents) - 1))]
        if form == "tar":
            return tar(path, *((header(name), content) for name, content in zip(names, contents, strict=True)))
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in zip(names, contents, strict=True):
                archive.writestr(name, content)
        return path

    monkeypatch.setattr(bench.sweeps.archives, "MEMBER_BYTES", 1000)
    monkeypatch.setattr(bench.sweeps.archives, "MEMBERS", 3)
    for contents, words in (([bytes(1001)], "more than 1,000"), ([b""] * 4, "more than 3 files")):
        status, said = bring(packed(*contents))
        assert status == 2 and one_line(said) and words in said


def test_a_bomb_is_not_unpacked(bring, tmp_path, monkeypatch):
    """Neither as a file that is skipped, nor as a name."""
    monkeypatch.setattr(bench.sweeps.archives, "ARCHIVE_BYTES", 1 << 21)
    path = tar(tmp_path / "x.tgz", (header("other"), bytes(1 << 22)), mode="w:gz")
    status, said = bring(path)
    assert status == 2 and one_line(said) and "unpacked; leave the checkpoints out" in said
    path = tar(tmp_path / "x.tgz", (header("n" * (1 << 22)), b""), mode="w:gz")
    status, said = bring(path)
    assert status == 2 and one_line(said) and "a header has more than" in said


def test_many_files_are_bounded_together(bring, tmp_path, monkeypatch):
    monkeypatch.setattr(bench.sweeps.archives, "ARCHIVE_BYTES", 5000)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(6):
            archive.writestr(PLACE.replace("bp", f"bp{n}"), bytes(1000))
    status, said = bring(tmp_path / "x.zip")
    assert status == 2 and one_line(said) and "unpacked" in said


def test_a_tar_that_holds_a_zip_is_a_tar(bring, record, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(PLACE, b"")
    status, said = bring(
        tar(tmp_path / "x.tar", (header(PLACE), record), (header("x.zip"), (tmp_path / "x.zip").read_bytes()))
    )
    assert status == 1 and "failed, so it has no result" in said


def test_a_name_that_comes_twice(bring, record, tmp_path):
    status, said = bring(tar(tmp_path / "x.tar", (header(PLACE), record), (header(PLACE), record)))
    assert status == 2 and one_line(said) and "twice" in said


def test_a_scale_that_does_not_exist(bring, record, tmp_path):
    status, said = bring(tar(tmp_path / "x.tar", (header(PLACE.replace("quick", "evil")), record)))
    assert status == 1 and "has no known scale: evil" in said


# What is odd


def flag_encrypted(content):
    """A zip whose members say that they are encrypted."""
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.index(mark) + offset
        content = content[:at] + struct.pack("<H", 1) + content[at + 2 :]
    return content


def method(content, number):
    """A zip whose members say that they are compressed by a method."""
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = content.index(mark) + offset
        content = content[:at] + struct.pack("<H", number) + content[at + 2 :]
    return content


ODD = {
    "encrypted": flag_encrypted,
    "unknown method": lambda content: method(content, 77),
    "bzip2 that is none": lambda content: method(content, 12),
    "lzma that is none": lambda content: method(content, 14),
    "altered": lambda content: content.replace(b'"schema"', b'"schemb"'),
    "cut": lambda content: content[:-40],
}


@pytest.mark.parametrize("damage", ODD.values(), ids=ODD)
def test_an_odd_zip(damage, bring, record, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(PLACE, record)
    (tmp_path / "x.zip").write_bytes(damage((tmp_path / "x.zip").read_bytes()))
    status, said = bring(tmp_path / "x.zip")
    assert status == 2 and one_line(said) and "cannot be unpacked" in said


@pytest.mark.parametrize("start", [b"\xfd7zXZ\0", b"\x1f\x8b\x08", b"BZh9", b"PK\x03\x04", b"ustar", b""])
def test_a_corrupt_file(start, bring, tmp_path):
    (tmp_path / "x.tar.xz").write_bytes(start + b"corrupt" * 1000)
    status, said = bring(tmp_path / "x.tar.xz")
    assert status == 2 and one_line(said) and "cannot be unpacked" in said


@pytest.mark.parametrize("cut", [512, 1024, 2048, -1024])
@pytest.mark.parametrize("opener", [open, gzip.open])
def test_a_tar_that_is_cut_short_is_no_shorter_tar(opener, cut, bring, record, tmp_path):
    """Also where it is cut between two records."""
    blocks = record + bytes(-len(record) % 512)
    tar(tmp_path / "whole", (header(PLACE), blocks), (header(PLACE.replace("bp", "fa")), blocks))
    end = 2 * (512 + len(blocks))
    content = (tmp_path / "whole").read_bytes()[:end]
    kept = content[: 512 + len(blocks)] if cut == 512 else content[:cut]
    with opener(tmp_path / "x.tgz", "wb") as file:
        file.write(kept)
    status, said = bring(tmp_path / "x.tgz")
    assert status == 2 and one_line(said) and "cannot be unpacked" in said


def test_a_damaged_header_does_not_end_the_archive(bring, record, tmp_path):
    path = tar(tmp_path / "x.tar", (header("other"), bytes(512)), (header(PLACE), record))
    content = bytearray(path.read_bytes())
    content[1024 + 148] ^= 1
    path.write_bytes(content)
    status, said = bring(path)
    assert status == 2 and one_line(said) and "damaged" in said


def test_a_sparse_file_of_40_gb(bring, tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        member = header(PLACE)
        member.pax_headers = {"GNU.sparse.map": f"0,1,{40 << 30},0", "GNU.sparse.size": str(40 << 30)}
        member.size = 1
        archive.addfile(member, io.BytesIO(b"{"))
    status, said = bring(tmp_path / "x.tar")
    assert status == 2 and one_line(said) and "sparse" in said


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_a_name_does_not_steer_the_terminal(form, bring, record, tmp_path):
    name = f"{CONFIG.slug}\x1b[2J\nrecords   imported: 9\u202e.json"
    path = tmp_path / "out\x1b/quick/records/run" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(record)
    path.with_name("x.json").write_bytes(record)
    source = tmp_path / "out\x1b"
    if form == "tar":
        with tarfile.open(source := tmp_path / "x.tar", "w") as archive:
            archive.add(tmp_path / "out\x1b", "out")
    status, said = bring(source)
    assert status == 1 and all(line.isprintable() for line in said.splitlines()) and "imported: none" in said
    lines = said.splitlines()
    assert len(lines) == (3 if form == "folder" else 2)
    assert form == "tar" or "\\x1b[2J\\nrecords" in said
    status, said = bring(tmp_path / "no\x1b[2Jw\there")
    assert status == 2 and one_line(said)


def test_a_device_or_a_pipe_is_no_archive(bring, tmp_path):
    os.mkfifo(tmp_path / "pipe.tar")
    for source in (tmp_path / "pipe.tar", Path("/dev/zero")):
        status, said = bring(source)
        assert status == 2 and one_line(said) and "no such folder or file" in said


def test_the_record_of_these_tests_is_one(bring, record, tmp_path):
    status, said = bring(tar(tmp_path / "x.tar", (header(PLACE), record)))
    assert status == 1 and "failed, so it has no result: lost" in said and json.loads(record)["reason"] == "lost"
