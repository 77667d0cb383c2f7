"""Files are those that were written, or one that is not is named; nothing is read without need."""

import os
import shutil

import pytest

from courier_tf.workdir import artefacts, checksums
from courier_tf.workdir.artefacts import DamagedArtefactError, ForeignFileError
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import CLUSTER
from tests.stage_facts import example

MADE_BY = MadeBy(CLUSTER, {}, {})


@pytest.fixture
def written(tmp_path):
    with artefacts.write_aside(tmp_path / "cluster", MADE_BY) as draft:
        (draft.path / "folder").mkdir()
        for name in ("a", "folder/b"):
            (draft.path / name).write_text(f"content of {name}")
        draft.facts = example(CLUSTER.facts)
    return tmp_path / "cluster"


@pytest.fixture
def read_files(monkeypatch):
    """The files whose content is read."""
    files, checksum = [], checksums.checksum

    def noted(file):
        files.append(file.name)
        return checksum(file)

    monkeypatch.setattr(checksums, "checksum", noted)
    return files


def change(file, text, keep_time=False):
    time = file.stat().st_mtime_ns
    file.write_text(text)
    os.utime(file, ns=(time, time) if keep_time else (time + 1, time + 1))


def test_nothing_is_read_while_sizes_and_times_are_the_same(written, read_files):
    for _ in range(2):
        artefacts.read(written, CLUSTER)
    assert read_files == []
    artefacts.verify(artefacts.read(written, CLUSTER), full=True)
    assert read_files == ["a", "b"]


def test_a_copy_is_read_through_once(written, read_files, tmp_path):
    shutil.copytree(written, tmp_path / "copy", copy_function=shutil.copyfile)
    first = artefacts.read(tmp_path / "copy", CLUSTER)
    assert sorted(read_files) == ["a", "b"]
    assert artefacts.read(tmp_path / "copy", CLUSTER) == first
    assert len(read_files) == 2 and first.fingerprint == artefacts.read(written, CLUSTER).fingerprint
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["a", "artefact.json", "folder"]


def test_where_times_cannot_be_remembered_the_copy_is_read_again(written, read_files, monkeypatch):
    change(written / "a", "content of a")

    def refuse(self, text):
        raise PermissionError(13, "read-only")

    monkeypatch.setattr(type(written), "write_text", refuse)
    for _ in range(2):
        artefacts.read(written, CLUSTER)
    assert read_files == ["a", "a"]


@pytest.mark.parametrize("keep_time", [False, True])
@pytest.mark.parametrize(
    "text, message",
    [
        ("content of c", "the content of the file a has changed"),
        ("cut", "the file a has 3 bytes, not 12"),
        (None, "the file a is missing"),
    ],
)
def test_what_is_damaged_is_named(written, text, message, keep_time):
    if text is None:
        (written / "a").unlink()
    else:
        change(written / "a", text, keep_time)
    full = pytest.raises(DamagedArtefactError, match=f"cluster is damaged: {message}.* Run 'courier cluster' again")
    if keep_time and text == "content of c":  # Nobody sees that at a glance; before an export all bytes are read.
        artefact = artefacts.read(written, CLUSTER)
        with full:
            artefacts.verify(artefact, full=True)
    else:
        with full:
            artefacts.read(written, CLUSTER)
        assert message in artefacts.why_stale(written, MADE_BY)


def test_a_file_too_many_is_refused_and_nothing_is_made_again_for_it(written):
    (written / "folder" / "c").write_text("")
    for look in (lambda: artefacts.read(written, CLUSTER), lambda: artefacts.is_current(written, MADE_BY)):
        with pytest.raises(ForeignFileError, match="the file folder/c does not belong there: remove it"):
            look()
    (written / "folder" / "c").unlink()
    for stray in (".DS_Store", "folder/.nfs0001", "logs/events", ".artefact.json.77.partial"):
        (written / stray).parent.mkdir(exist_ok=True)
        (written / stray).write_text("x")
    assert artefacts.is_current(written, MADE_BY)


def test_a_named_pipe_is_refused_and_not_waited_for(written):
    (written / "a").unlink()
    os.mkfifo(written / "a")
    with pytest.raises(DamagedArtefactError, match="a is no regular file"):
        artefacts.read(written, CLUSTER)
    os.mkfifo(written / "new\n\x1b[2J")
    with pytest.raises(checksums.DamagedError, match="is no regular file"):
        checksums.states_below(written)
    shutil.rmtree(written / "folder")
    (written / "a").unlink()
    (written / "a").write_text("content of a")
    os.mkfifo(written / "folder")
    with pytest.raises(DamagedArtefactError):
        artefacts.read(written, CLUSTER)


def test_a_link_that_leads_back_ends(written):
    """Two of them would be followed 2^40 times, until the path is too long."""
    for name in ("up", "folder/up", "folder/also"):
        (written / name).symlink_to(written)
    with pytest.raises(ForeignFileError, match="folder/also does not belong there"):
        artefacts.read(written, CLUSTER)
