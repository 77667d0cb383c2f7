"""What tells whether the tables of a raw folder are the same: their content, and nothing else in the folder."""

import json
import os
import time

import pytest

from beam_jobs import raw_fingerprint
from beam_jobs.raw_errors import RawDataError
from beam_jobs.raw_fingerprint import fingerprint_of_raw, fingerprint_with_photos
from courier_tf.settings.raw import RawSettings


@pytest.fixture
def shop(tmp_path):
    folder = tmp_path / "shop"
    (folder / "events/day=1").mkdir(parents=True)
    (folder / "images").mkdir()
    (folder / "items.csv").write_text("item_id\na\n")
    (folder / "events/day=1/a.csv").write_text("user_id\nu\n")
    (folder / "images/a.jpg").write_text("photo")
    return folder


def test_touching_files_and_files_of_no_table_change_nothing(shop, tmp_path):
    before = fingerprint_of_raw(str(shop))
    for file in ("items.csv", "events/day=1/a.csv", "images/a.jpg"):
        os.utime(shop / file, (1, 1))
    (shop / "notes.txt").write_text("for humans")
    (shop / "images/b.jpg").write_text("of no item")
    (shop / "events/_SUCCESS").write_text("")
    assert fingerprint_of_raw(str(shop)) == before
    shop.rename(tmp_path / "moved")
    assert fingerprint_of_raw(str(tmp_path / "moved")) == before


@pytest.mark.parametrize("memory", [None, "memory.json"])
def test_content_and_names_of_tables_count(shop, tmp_path, memory):
    remembered = memory and tmp_path / memory
    seen = {fingerprint_of_raw(str(shop), memory=remembered)}
    log = shop / "events/day=1/a.csv"
    log.write_text("user_id\nv\n")  # Of the same size.
    seen.add(fingerprint_of_raw(str(shop), memory=remembered))
    log.rename(log.with_name("b.csv"))
    seen.add(fingerprint_of_raw(str(shop), memory=remembered))
    (shop / "items-more.csv").write_text("item_id\n")
    seen.add(fingerprint_of_raw(str(shop), memory=remembered))
    assert len(seen) == 4


def test_a_file_that_is_as_it_was_is_not_read_again(shop, tmp_path, monkeypatch):
    memory, read = tmp_path / "w" / "memory.json", []
    true = raw_fingerprint.checksum
    monkeypatch.setattr(raw_fingerprint, "checksum", lambda file: read.append(file.name) or true(file))
    os.utime(shop / "items.csv", (1, 1))
    before = fingerprint_of_raw(str(shop), memory=memory)
    os.utime(shop / "events/day=1/a.csv", (time.time() + 60,) * 2)  # It may be changing at this moment.
    assert fingerprint_of_raw(str(shop), memory=memory) == fingerprint_of_raw(str(shop), memory=memory) == before
    assert read == ["items.csv", "a.csv", "a.csv", "a.csv"]
    for broken in ("", "[]", json.dumps({str(shop / "items.csv"): [1]})):
        memory.write_text(broken)
        assert fingerprint_of_raw(str(shop), memory=memory) == before


def test_a_change_behind_a_link_is_seen_where_links_are_followed(shop, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b.csv").write_text("user_id\nu\n")
    before = fingerprint_of_raw(str(shop), RawSettings(follow_links=True))
    (shop / "events" / "folder").symlink_to(outside)
    linked = fingerprint_of_raw(str(shop), RawSettings(follow_links=True))
    (outside / "b.csv").write_text("user_id\nw\n")
    assert len({before, linked, fingerprint_of_raw(str(shop), RawSettings(follow_links=True))}) == 3
    with pytest.raises(RawDataError, match="--follow-links follows it"):
        fingerprint_of_raw(str(shop))


def test_an_experiment_notices_a_changed_photo(shop):
    before = fingerprint_with_photos(str(shop))
    os.utime(shop / "images/a.jpg", (1, 1))
    assert fingerprint_with_photos(str(shop)) == before
    (shop / "images/a.jpg").write_text("another photo")
    changed = fingerprint_with_photos(str(shop))
    (shop / "items.csv").write_text("item_id\nb\n")
    assert len({before, changed, fingerprint_with_photos(str(shop))}) == 3


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RawDataError, match="none is empty or does not exist"):
        fingerprint_of_raw(str(tmp_path / "none"))
