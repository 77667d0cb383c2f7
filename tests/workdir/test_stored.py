"""Stages on a store that speaks S3: whole or not there, copies that are checked, and what is brought back."""

import pytest

from courier_tf.files import transfer
from courier_tf.files.places import place_of
from courier_tf.workdir import artefacts, stored
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import CLUSTER
from tests.object_stores import store
from tests.stage_facts import example


@pytest.fixture(scope="module")
def bucket():
    with store("s3") as root:
        yield place_of(root)


def write(target, content: bytes):
    with stored.write_stage(target, MadeBy(CLUSTER, {"n": content.decode()}, {})) as draft:
        transfer.write_bytes(draft.place / "folder/file", content)
        draft.facts = example(CLUSTER.facts)
    return artefacts.read(target, CLUSTER)


def test_a_stage_is_replaced_as_a_whole_and_a_failure_leaves_the_one_before(bucket, tmp_path):
    place = bucket / "w/cluster"
    first = write(place, b"one")
    # What a killed writer has left is removed by the next one.
    transfer.write_bytes(place / "attempt-killed/folder/file", b"half")
    with pytest.raises(RuntimeError, match="broken"), stored.write_stage(place, MadeBy(CLUSTER, {}, {})) as draft:
        transfer.write_bytes(draft.place / "folder/file", b"two")
        raise RuntimeError("broken")
    assert artefacts.read(place, CLUSTER) == first
    assert transfer.names_in(place) == ["artefact.json", f"{first.place.name}/"]
    second = write(place, b"two")
    assert second.fingerprint == write(tmp_path / "cluster", b"two").fingerprint != first.fingerprint
    assert transfer.names_in(place) == ["artefact.json", f"{second.place.name}/"]


def test_a_copy_is_what_was_written_or_refused(bucket, tmp_path):
    place = bucket / "copied/cluster"
    artefact = write(place, b"one")
    copy = stored.local_copy(artefact, tmp_path / "copy")
    assert (copy / "folder/file").read_bytes() == b"one"
    assert artefacts.read(copy, CLUSTER).fingerprint == artefact.fingerprint
    (copy / "folder/file").write_bytes(b"eno")  # Damaged here: it is fetched again.
    assert (stored.local_copy(artefact, copy) / "folder/file").read_bytes() == b"one"
    transfer.write_bytes(artefact.place / "folder/file", b"One")  # Of the same size.
    with pytest.raises(artefacts.DamagedArtefactError, match="file is not what was written. Run 'courier cluster'"):
        stored.local_copy(artefact, tmp_path / "other")
    transfer.remove(artefact.place / "folder/file")
    with pytest.raises(artefacts.DamagedArtefactError, match="file is missing"):
        artefacts.read(place, CLUSTER)


def test_what_has_changed_here_is_brought_back_without_locks(bucket, tmp_path):
    place = bucket / "changed"
    for name in ("models/old/file", "models/kept/file", "other/file"):
        transfer.write_bytes(place / name, b"there")
    with stored.changed_here(place, tmp_path, ["models", "config"]):
        assert sorted(entry.name for entry in transfer.files_below(tmp_path)) == ["models/kept/file", "models/old/file"]
        transfer.remove(tmp_path / "models/old")
        for name in ("models/new/file", "models/.export.lock", "config"):
            transfer.write_bytes(tmp_path / name, b"here")
    files = {entry.name for entry in transfer.files_below(place)}
    assert files == {"models/kept/file", "models/new/file", "config", "other/file"}
