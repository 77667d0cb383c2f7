"""Files are those that were written, or one that is not is named; no large file is read without need."""

import errno
import json
import os
import shutil

import pytest
import tensorflow as tf

from courier_tf.workdir import artefacts, checksums
from courier_tf.workdir.artefacts import ArtefactError, DamagedArtefactError, ForeignFileError
from courier_tf.workdir.damage import damage_named
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


@pytest.fixture
def large():
    """All files count as large."""
    token = artefacts._read_up_to.set(0)
    yield
    artefacts._read_up_to.reset(token)


def change(file, text, keep_time=False):
    time = file.stat().st_mtime_ns
    file.write_text(text)
    os.utime(file, ns=(time, time) if keep_time else (time + 1, time + 1))


def test_no_large_file_is_read_while_sizes_and_times_are_the_same(written, large, read_files):
    for _ in range(2):
        artefacts.read(written, CLUSTER)
    assert read_files == []
    artefacts.verify(artefacts.read(written, CLUSTER), full=True)
    assert read_files == ["a", "b"]


def test_small_files_are_read_but_not_those_whose_format_has_checksums(tmp_path, read_files):
    with artefacts.write_aside(tmp_path / "cluster", MADE_BY) as draft:
        for name in ("a", "b.tfrecord"):
            (draft.path / name).write_text(f"content of {name}")
        draft.facts = example(CLUSTER.facts)
    read_files.clear()
    artefacts.read(tmp_path / "cluster", CLUSTER)
    artefacts.read(tmp_path / "cluster", CLUSTER)
    assert read_files == ["a", "a"], "it may have changed in between, within one tick of the clock of the file system"


def test_what_has_been_left_alone_is_read_once(written, read_files, monkeypatch):
    monkeypatch.setattr(checksums, "SETTLED_NS", 0)
    for _ in range(2):
        artefacts.read(written, CLUSTER)
    assert read_files == ["a", "b"]
    change(written / "a", "content of c", keep_time=True)
    with pytest.raises(DamagedArtefactError, match="the content of the file a has changed"):
        artefacts.read(written, CLUSTER)


def test_large_files_are_read_where_a_stage_is_made_from_them(written, large):
    change(written / "a", "content of c", keep_time=True)
    artefacts.read(written, CLUSTER)
    with artefacts.reading_large_files(), pytest.raises(DamagedArtefactError, match="the content of the file a has"):
        artefacts.read(written, CLUSTER)


def test_what_was_found_damaged_is_found_again_and_forgotten_once_it_is_right(written, large):
    """So the command that the message names makes the stage again, which it would take for unchanged."""
    before = artefacts.read(written, CLUSTER)
    change(written / "a", "content of c", keep_time=True)
    assert artefacts.is_current(written, MADE_BY), "nobody has looked"
    with pytest.raises(DamagedArtefactError):
        artefacts.verify(before, full=True)
    assert "the content of the file a has changed" in artefacts.why_stale(written, MADE_BY)
    change(written / "a", "content of a", keep_time=True)
    assert artefacts.read(written, CLUSTER) == before


def fails_after_reading(written, error):
    with damage_named():
        artefacts.read(written, CLUSTER)
        raise error


UNKNOWN = [
    ValueError("unreadable"),
    tf.errors.DataLossError(None, None, "corrupted record"),
    OSError("Couldn't deserialize"),
]


@pytest.mark.parametrize("error", UNKNOWN, ids=lambda error: type(error).__name__)
def test_an_error_is_told_as_damage_if_a_file_is_damaged_and_else_stays(written, large, error):
    with pytest.raises(type(error)) as told:
        fails_after_reading(written, error)
    assert told.value is error
    change(written / "a", "content of c", keep_time=True)
    with pytest.raises(
        DamagedArtefactError, match="cluster is damaged: .*file a has changed. Run 'courier clus"
    ) as told:
        fails_after_reading(written, error)
    assert told.value.__cause__ is error


def test_errors_that_come_from_no_file_stay_without_a_look(written, large, read_files):
    for error in (OSError(errno.ENOSPC, "full"), ArtefactError("no such mode"), BrokenPipeError()):
        with pytest.raises(type(error)):
            fails_after_reading(written, error)
    with pytest.raises(ArtefactError):
        try:
            raise OSError(errno.EROFS, "read-only")
        except OSError as cause:
            error = ArtefactError("not written")
            error.__cause__ = cause
            fails_after_reading(written, error)
    assert not read_files
    error.__cause__ = KeyError("name")  # Ours, but it only passes on what nobody has raised on purpose.
    with pytest.raises(ArtefactError):
        fails_after_reading(written, error)
    assert read_files == ["a", "b"]


def test_what_is_made_anew_or_removed_meanwhile_is_not_blamed(written, large):
    for number in range(2):
        with pytest.raises(KeyError), damage_named():
            artefacts.read(written, CLUSTER)
            if number:
                shutil.rmtree(written)
            else:
                with artefacts.write_aside(written, MADE_BY) as draft:
                    (draft.path / "c").write_text("another")
                    draft.facts = example(CLUSTER.facts)
            raise KeyError


def test_a_description_has_a_checksum_and_an_older_one_needs_none(written):
    file = written / artefacts.ARTEFACT_FILE
    text = file.read_text()
    for whole, rotten in (('"embedding_dim": ', '"embedding_dim": 1'), ('"code_version": "', '"code_version": "1')):
        assert whole in text
        file.write_text(text.replace(whole, rotten))
        with pytest.raises(DamagedArtefactError, match="content of the file artefact.json has changed. Run 'courier"):
            artefacts.read(written, CLUSTER)
    content = json.loads(text)
    del content[artefacts.CHECKSUM]
    file.write_text(json.dumps(content))
    artefacts.read(written, CLUSTER)


def test_a_copy_is_read_through_once(written, large, read_files, tmp_path):
    shutil.copytree(written, tmp_path / "copy", copy_function=shutil.copyfile)
    first = artefacts.read(tmp_path / "copy", CLUSTER)
    assert sorted(read_files) == ["a", "b"]
    assert artefacts.read(tmp_path / "copy", CLUSTER) == first
    assert len(read_files) == 2 and first.fingerprint == artefacts.read(written, CLUSTER).fingerprint
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["a", "artefact.json", "folder"]


def test_where_times_cannot_be_remembered_the_copy_is_read_again(written, large, read_files, monkeypatch):
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
def test_what_is_damaged_is_named(written, large, text, message, keep_time):
    if text is None:
        (written / "a").unlink()
    else:
        change(written / "a", text, keep_time)
    full = pytest.raises(DamagedArtefactError, match=f"cluster is damaged: {message}.* Run 'courier cluster' again")
    if (
        keep_time and text == "content of c"
    ):  # Of a large file nobody sees that at a glance; before an export all bytes are read.
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
