"""Large tables have more files, with the same records in them; photos inside rows have a limit."""

import dataclasses

import pytest

from beam_jobs import file_numbers
from beam_jobs.formats import RawDataError
from courier_tf.settings import IngestSettings
from courier_tf.workdir import records

from .conftest import impression_log, positives_log


def number(ingested, folder, prefix):
    return len(records.files(ingested.target / folder, prefix))


@pytest.fixture
def shop(raw):
    raw.write("items", raw.items())
    raw.write("events", impression_log())
    return raw


@pytest.mark.slow
def test_large_tables_have_more_files_with_the_same_records(shop, tmp_path, monkeypatch):
    few = shop.ingest(tmp_path / "few")
    # A record counts as a megabyte at least, in place of some hundred bytes.
    monkeypatch.setattr(file_numbers, "_RECORD", 1 << 20)
    many = shop.ingest(tmp_path / "many", shard_megabytes=24)
    assert number(few, "items", "items") == number(few, "impressions", "train") == 2
    assert number(many, "items", "items") == 2  # 8 items are less than 24 MB.
    for split in ("train", "valid", "test"):
        rows = many.rows("impressions", split)
        assert number(many, "impressions", split) == max(2, -(-len(rows) // 24) + (len(rows) % 24 == 0))
        ordered = [sorted(made.rows("impressions", split), key=str) for made in (few, many)]
        assert ordered[0] == ordered[1] and rows
    assert number(many, "page_views", "train") == number(many, "impressions", "train") > 10
    ours, theirs = (dataclasses.replace(made.facts, counts={}, log_basis="") for made in (many, few))
    assert ours == theirs
    assert many.facts.counts == few.facts.counts and "inline_photo_bytes" not in few.facts.counts


@pytest.mark.slow
def test_sizes_are_about_those_of_the_files(raw, tmp_path, monkeypatch):
    """The bytes that are worked out before anything is written, beside those that were."""
    raw.write("items", raw.items())
    raw.write("events", positives_log(users=20))
    sizes = []
    inner = file_numbers.files_of
    monkeypatch.setattr(file_numbers, "files_of", lambda size, given: sizes.append(size) or inner(size, given))
    ingested = raw.ingest(tmp_path / "out", negatives_per_positive=3)
    written = {
        name: sum(file.stat().st_size for file in (ingested.target / folder).glob(f"{name}-*"))
        for folder, name in (("impressions", "train"), ("impressions", "valid"), ("impressions", "test"))
    }
    for name, size in written.items():
        assert any(0.5 * size < worked_out < 2.5 * size for worked_out in sizes), (name, size, sizes)


@pytest.mark.slow
def test_photos_inside_rows_are_weighed_before_they_are_put_there(shop, tmp_path):
    whole = shop.ingest(tmp_path / "whole", inline_photos=True)
    told = whole.facts.counts["inline_photo_bytes"]
    photos = records.read_items(whole.target, ["category"]).photos
    rows = [row for split in ("train", "valid") for row in whole.rows("page_views", split)]
    inside = sum(len(row["history_item_ids"]) + len(row["page_view_item_ids"]) for row in rows)
    assert abs(told - inside * sum(map(len, photos)) / len(photos)) < 3
    with pytest.raises(RawDataError, match=r"would take .* GB, more than --max-inline-gigabytes 1e-05: raise it, or"):
        shop.ingest(tmp_path / "limited", inline_photos=True, max_inline_gigabytes=1e-5)


def test_a_number_of_files_by_size():
    settings = IngestSettings(shards=4, shard_megabytes=10)
    assert [file_numbers.files_of(size << 20, settings) for size in (0, 1, 40, 41, 1000)] == [4, 4, 4, 5, 100]
