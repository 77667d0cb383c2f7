"""Photos that an ingest has stored are not decoded again, and the result is that of a full run, byte for byte."""

import dataclasses
import os

import pytest

from beam_jobs import items, photos
from beam_jobs.ingest import ingest
from beam_jobs.known_photos import files_of_known
from beam_jobs.photo_check import photos_differ
from courier_tf.settings import IngestSettings
from courier_tf.workdir import artefacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import INGEST

from .conftest import impression_log, photo

SETTINGS = IngestSettings(image_size=16, shards=2, max_reject_fraction=0.5, max_missing_photo_fraction=0.5)
MADE_BY = MadeBy("ingest", {}, {})


def made(raw, target, known=(), settings=SETTINGS, made_by=MADE_BY):
    """The finished ingest."""
    ingest(str(raw.folder), target, settings, made_by, known=known)
    return artefacts.read(target, INGEST)


def numbers(artefact):
    return artefact.facts.photos_decoded, artefact.facts.photos_taken_over


@pytest.fixture
def shop(raw):
    rows = raw.items(8)
    raw.write("items", rows)
    raw.write("events", impression_log())
    images = raw.folder / "images"
    (images / "item6.jpg").write_bytes(b"broken")
    (images / "item7.jpg").unlink()
    return raw


def test_only_new_and_changed_photos_are_decoded(shop, tmp_path, monkeypatch):
    images, decoded = shop.folder / "images", []
    first = made(shop, tmp_path / "first")
    assert numbers(first) == (7, 0)
    for number in range(8):  # Time and size do not count, the content does.
        if (images / f"item{number}.jpg").exists():
            os.utime(images / f"item{number}.jpg", (1, 1))
    (images / "item2.jpg").write_bytes(photo(seed=90))
    (images / "item7.jpg").write_bytes(photo(seed=91))
    for number in (8, 9):
        (images / f"item{number}.jpg").write_bytes(photo(seed=number))
        with (shop.folder / "items.csv").open("a") as table:
            table.write(f"item{number},images/item{number}.jpg,c1,new\n")
    monkeypatch.setattr("beam_jobs.ingest.require_sound", lambda _: None)  # It decodes a sample of them.
    true = photos.normalise_all
    monkeypatch.setattr(photos, "normalise_all", lambda files, size: decoded.extend(files) or true(files, size))
    second = made(shop, tmp_path / "second", [tmp_path / "none", tmp_path / "first"])
    changed = ("item2", "item6", "item7", "item8", "item9")  # A broken one tells again why.
    assert sorted(decoded) == sorted((images / f"{name}.jpg").read_bytes() for name in changed)
    assert numbers(second) == (5, 5)
    assert (second.facts.days_taken_over, second.facts.days_made) == (10, 0)
    full = made(shop, tmp_path / "full")
    assert numbers(full) == (10, 0)
    assert second.fingerprint == full.fingerprint and second.facts.counts == full.facts.counts
    assert second.facts.photo_contents == full.facts.photo_contents != first.facts.photo_contents


@pytest.mark.parametrize("bound", [{"TOGETHER": 3}, pytest.param({"BYTES_TOGETHER": 1}, marks=pytest.mark.slow)])
def test_how_many_photos_are_decoded_at_once_changes_nothing(shop, tmp_path, monkeypatch, bound):
    """Among eight are a broken one and a missing one, and some are taken over."""
    full = made(shop, tmp_path / "full")
    sizes, true = [], photos.normalise_all
    monkeypatch.setattr(photos, "normalise_all", lambda files, size: sizes.append(len(files)) or true(files, size))
    monkeypatch.setattr("beam_jobs.ingest.require_sound", lambda _: None)  # It decodes a sample of them.
    for name, value in bound.items():
        monkeypatch.setattr(items, name, value)
    some = made(shop, tmp_path / "some")
    assert max(sizes) <= 3 and len(sizes) > 2 and numbers(some) == (7, 0)
    assert some.fingerprint == full.fingerprint and some.facts.counts == full.facts.counts
    assert numbers(made(shop, tmp_path / "again", [tmp_path / "full"])) == (1, 6)


@pytest.mark.slow
def test_photos_of_another_size_or_decoder_are_not_taken_over(shop, tmp_path):
    made(shop, tmp_path / "first")

    def known(settings=SETTINGS, **code):
        made_by = dataclasses.replace(MADE_BY, code={**MADE_BY.code, **code})
        return len(files_of_known([tmp_path / "none", tmp_path / "first"], settings, made_by))

    assert known() == SETTINGS.shards
    assert known(**{"beam_jobs/negatives.py": "0"}) == SETTINGS.shards
    assert known(**{"beam_jobs/photos.py": "0"}) == known(dataclasses.replace(SETTINGS, image_size=8)) == 0


@pytest.mark.slow
def test_a_changed_photo_is_noticed_and_a_touched_one_is_not(shop, tmp_path):
    stage, images = tmp_path / "w" / "ingest", shop.folder / "images"
    facts = made(shop, stage).facts

    def differ():
        return photos_differ(str(shop.folder), stage, facts, SETTINGS)

    assert not differ()
    os.utime(images / "item1.jpg", (1, 1))
    (images / "of_no_item.jpg").write_bytes(photo(seed=9))
    assert not differ()
    before = (images / "item1.jpg").read_bytes()
    (images / "item1.jpg").write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert differ()
    (images / "item1.jpg").write_bytes(before)
    (images / "item7.jpg").write_bytes(photo())  # One that was missing.
    assert differ()
    (images / "item7.jpg").unlink()
    (images / "item0.jpg").unlink()
    assert differ()
    assert [file.name for file in stage.parent.iterdir()] == ["ingest"], "nothing is left behind"
