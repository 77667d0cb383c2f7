"""Raw folder and stage on a store: what the same folders on this machine give."""

import dataclasses
import json

import pytest

from beam_jobs.ingest import ingest
from beam_jobs.photo_places import PhotoPlaces
from beam_jobs.raw_files import find_files
from beam_jobs.raw_fingerprint import fingerprint_of_raw
from courier_tf.files import transfer
from courier_tf.files.places import StoreError, place_of
from courier_tf.images import PhotoError
from courier_tf.settings import IngestSettings
from courier_tf.workdir import artefacts, stored
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import INGEST
from tests.beam_jobs.conftest import impression_log
from tests.object_stores import store

SETTINGS = IngestSettings(image_size=16, shards=2, max_reject_fraction=0.5, max_missing_photo_fraction=0.5)


@pytest.fixture(scope="module", params=["s3", pytest.param("gs", marks=pytest.mark.slow)])
def bucket(request):
    with store(request.param) as root:
        yield root


def content_of(target):
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*.tfrecord")}


def rejects_of(target):
    return [json.loads(line) for line in (target / "rejects/rejects-00000-of-00001.jsonl").read_text().splitlines()]


def test_a_raw_folder_on_a_store_gives_the_same_files(bucket, raw, tmp_path):
    items, log = raw.items(), impression_log()
    items[1]["image"], items[2]["image"] = "images/none.jpg", "ITEM2"  # Missing; and a name to be matched.
    items[3]["image"] = f"{bucket}/shop/images/item3.jpg"
    log[5]["item_id"] = "unknown"
    raw.write("items", items)
    raw.write("events", log)
    for number in range(2):
        (raw.folder / "events").mkdir(exist_ok=True)
        rows = "".join((raw.folder / "events.csv").read_text().splitlines(True)[:: 1 + number])
        (raw.folder / "events" / f"part {number}.csv").write_text(rows)
    (raw.folder / "events.csv").unlink()
    address = f"{bucket}/shop"
    transfer.upload(raw.folder, place_of(address))
    items[3]["image"] = "images/item3.jpg"
    raw.write("items", items)
    made_by = MadeBy("ingest", {}, {})
    ingest(str(raw.folder), tmp_path / "local", SETTINGS, made_by)
    ingest(address, place_of(f"{bucket}/w/ingest"), SETTINGS, made_by)
    there = artefacts.read(place_of(f"{bucket}/w/ingest"), INGEST)
    copy = stored.local_copy(there, tmp_path / "stored")
    assert content_of(copy) == content_of(tmp_path / "local")
    assert there.facts.counts == artefacts.read(tmp_path / "local", INGEST).facts.counts
    assert there.facts.counts["photos_found_by_name"] == 1
    rejects = rejects_of(tmp_path / "local")
    for reject in rejects:
        reject["file"] = reject["file"].replace(str(raw.folder), address)
    assert rejects_of(copy) == rejects != []


def test_a_store_that_did_not_answer_one_job_is_read_by_the_next(bucket, monkeypatch):
    address = f"{bucket}/photos/a.jpg"
    transfer.write_bytes(place_of(address), b"photo")
    asked = []

    def down(place):
        asked.append(place)
        raise StoreError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "require_bucket", down)
        places = PhotoPlaces(f"{bucket}/shop", follow_links=False)
        for _ in range(2):
            with pytest.raises(PhotoError, match="^it cannot be read: no answer$"):
                places.read(address)
    assert len(asked) == 1
    assert PhotoPlaces(f"{bucket}/shop", follow_links=False).read(address).content == b"photo"


def test_the_fingerprint_follows_what_is_there(bucket):
    folder = place_of(f"{bucket}/changing")
    for table in ("items", "events"):
        transfer.write_bytes(folder / f"{table}.csv", b"a")
    before = fingerprint_of_raw(str(folder))
    transfer.write_bytes(folder / "notes.txt", b"a")
    transfer.write_bytes(folder / "images/a.jpg", b"a")
    assert fingerprint_of_raw(f"{folder}/") == fingerprint_of_raw(str(folder)) == before
    transfer.write_bytes(folder / "items.csv", b"ab")
    assert fingerprint_of_raw(str(folder)) != before


def test_tables_are_found_without_a_listing_of_photos(bucket, monkeypatch):
    folder = place_of(f"{bucket}/many")
    for name in ("items.csv", "events/day=1/a.csv", "events/_SUCCESS", "images/x.jpg", "event_notes.csv"):
        transfer.write_bytes(folder / name, b"a,b")
    listed, below = [], transfer.files_below
    monkeypatch.setattr(transfer, "files_below", lambda place: listed.append(str(place)) or below(place))
    assert find_files(str(folder), "items").files == (f"{folder}/items.csv",)
    events = find_files(str(folder), "events")
    assert events.files == (f"{folder}/events/day=1/a.csv",)
    assert events.partitions[f"{folder}/events/day=1/a.csv"] == (("day", "1"),)
    if bucket.startswith("s3:"):
        assert listed == [f"{folder}/events"]


def test_a_bucket_that_is_not_there_is_named(bucket):
    address = f"{bucket}-none/shop"
    with pytest.raises(StoreError, match=f"^{address}: there is no such bucket$"):
        fingerprint_of_raw(address)
    with pytest.raises(StoreError, match=f"^{address}: there is no such bucket$"):
        ingest(address, None, dataclasses.replace(SETTINGS), MadeBy("ingest", {}, {}))
