"""The report of a workdir with missing and damaged stages: a page all the same, and lines that name the way out."""

import os
import shutil

import pytest

from courier_tf.commands import program
from courier_tf.report import page as pages
from courier_tf.report.blocks import Photo, PhotoRow, Photos
from courier_tf.report.page import PAGE_FILE, SECTIONS


@pytest.fixture
def workdir(finished, tmp_path, monkeypatch):
    """A copy of a finished workdir, whose report has two sections."""
    shutil.copytree(finished[1].workdir, tmp_path / "work", symlinks=True)
    monkeypatch.setattr(pages, "SECTIONS", {name: SECTIONS[name] for name in ("clusters", "neighbours")})
    return tmp_path / "work"


def rot(file):
    """Flips all bits of a byte in the middle of a file; size and time stay."""
    status, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def warnings_of(workdir, capsys):
    """What `courier report` prints as warnings, once it has written the page."""
    program.main(["report", "--workdir", str(workdir)])
    assert (workdir / PAGE_FILE).exists()
    return capsys.readouterr().err.splitlines()


def test_a_whole_workdir_is_no_warning(workdir, capsys):
    assert warnings_of(workdir, capsys) == []


def test_damaged_stages_are_named(workdir, capsys):
    rot(workdir / "cluster" / "codebook.npy")
    (workdir / "rank" / "none" / "valid.npy").unlink()
    cluster, rank = warnings_of(workdir, capsys)
    assert "the report is not complete: The stage cluster cannot be read: " in cluster
    assert cluster.endswith("the content of the file codebook.npy has changed. Run 'courier cluster' again.")
    assert rank.endswith("the file none/valid.npy is missing. Run 'courier rank' again.")


def test_of_missing_stages_the_first_is_named(workdir, capsys):
    for stage in ("cluster", "rank"):
        shutil.rmtree(workdir / stage)
    (line,) = warnings_of(workdir, capsys)
    assert line.endswith("the report is not complete: The stage cluster has not run yet: courier cluster.")


def test_photos_that_cannot_be_read_are_named(workdir, capsys):
    file = workdir / "ingest" / "items" / "items-00000-of-00002.tfrecord"
    rot(file)
    lines = warnings_of(workdir, capsys)
    assert lines and all(
        "Run 'courier ingest' again." in line and f"items/{file.name} has changed" in line for line in lines
    )


def test_a_page_without_its_photos_says_so(workdir, capsys, monkeypatch):
    def shown(_):
        yield Photos([PhotoRow("items", {}, [Photo("i0000003")])])

    monkeypatch.setattr(pages, "SECTIONS", {"one": ("First", shown)})
    rot(workdir / "ingest" / "items" / "items-00000-of-00002.tfrecord")
    lines = warnings_of(workdir, capsys)
    assert "the report has no photos: DamagedArtefactError: " in lines[0] and "Run 'courier ingest' again." in lines[0]
