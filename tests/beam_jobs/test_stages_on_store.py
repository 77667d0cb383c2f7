"""Jobs that write a stage to a store: the same content as on this machine, and whole or not at all."""

import json

import pytest

from beam_jobs.formats import RawDataError
from beam_jobs.ingest import ingest
from courier_tf.files import transfer
from courier_tf.files.places import place_of
from courier_tf.settings import IngestSettings
from courier_tf.workdir import artefacts, stored
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import INGEST
from tests.beam_jobs.conftest import impression_log
from tests.object_stores import store

pytestmark = pytest.mark.slow  # test_raw_on_store.py writes a stage to a store, too.
SETTINGS = IngestSettings(image_size=16, shards=2)
MADE_BY = MadeBy("ingest", {}, {})


@pytest.fixture(scope="module")
def bucket():
    with store("s3") as root:
        yield root


def test_a_stage_on_a_store_has_the_same_content(bucket, raw, tmp_path, monkeypatch):
    raw.write("items", raw.items())
    raw.write("events", impression_log())
    target = place_of(f"{bucket}/w/ingest")
    transfer.write_bytes(target / "attempt-killed/items/x", b"left by a killed attempt")
    ingest(str(raw.folder), tmp_path / "local", SETTINGS, MADE_BY)
    read, reading = [], transfer.read_bytes
    monkeypatch.setattr(transfer, "read_bytes", lambda file, *most: read.append(file.name) or reading(file, *most))
    ingest(str(raw.folder), target, SETTINGS, MADE_BY)
    assert not [name for name in read if name.endswith(".tfrecord")]  # Nobody hashes what workers have hashed.
    here, there = artefacts.read(tmp_path / "local", INGEST), artefacts.read(target, INGEST)
    assert there.fingerprint == here.fingerprint
    assert there.facts == here.facts
    content = json.loads(reading(target / "artefact.json"))
    assert transfer.names_in(target) == ["artefact.json", f"{content['folder']}/"]
    copy = stored.local_copy(there, tmp_path / "copy")
    assert artefacts.verify(artefacts.read(copy, INGEST), full=True).fingerprint == here.fingerprint
    names = {path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file()} - {"artefact.json"}
    assert names == set(here.files)
    assert all((copy / name).read_bytes() == (here.path / name).read_bytes() for name in names)

    file = next(name for name in sorted(names) if name.startswith("items/"))
    content = reading(there.place / file)
    transfer.write_bytes(there.place / file, content[:-1] + b"?")
    assert stored.local_copy(there, tmp_path / "copy") == copy  # It was compared when it was made.
    with pytest.raises(artefacts.DamagedArtefactError, match="is not what was written"):
        stored.local_copy(there, tmp_path / "other")
    transfer.write_bytes(there.place / file, content[:-1])
    with pytest.raises(artefacts.DamagedArtefactError, match="bytes, not"):
        artefacts.read(target, INGEST)
    transfer.remove(there.place / file)
    assert "is missing" in artefacts.why_stale(target, MADE_BY)


def test_a_job_that_fails_leaves_the_stage_before(bucket, raw):
    target = place_of(f"{bucket}/again/ingest")
    raw.write("items", raw.items())
    raw.write("events", impression_log())
    ingest(str(raw.folder), target, SETTINGS, MADE_BY)
    before = transfer.files_below(target)
    log = impression_log()  # If all were unknown, no job would start.
    raw.write("events", [row | {"item_id": "unknown"} if n % 3 else row for n, row in enumerate(log)])
    with pytest.raises(RawDataError, match="not in the catalogue"):
        ingest(str(raw.folder), target, SETTINGS, MADE_BY)
    assert transfer.files_below(target) == before
    assert b"unknown" in transfer.read_bytes(place_of(f"{target}_rejects/rejects-00000-of-00001.jsonl"))
    assert artefacts.is_current(target, MADE_BY)


def test_a_finished_folder_is_published(bucket, tmp_path, raw):
    raw.write("items", raw.items())
    raw.write("events", impression_log())
    ingest(str(raw.folder), tmp_path / "local", SETTINGS, MADE_BY)
    (tmp_path / "local" / "logs").mkdir()
    (tmp_path / "local" / "logs" / "events").write_text("stay here")
    target = place_of(f"{bucket}/published/ingest")
    for _ in range(2):
        stored.publish(tmp_path / "local", target)
        artefact = artefacts.read(target, INGEST)
        assert artefact.fingerprint == artefacts.read(tmp_path / "local", INGEST).fingerprint
        assert len(transfer.names_in(target)) == 2
    assert {entry.name for entry in transfer.files_below(artefact.place)} == set(artefact.files)
