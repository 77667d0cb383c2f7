"""Which files of a raw folder count, and what their places say."""

import gzip
import os
import socket
from collections import Counter

import pytest

from beam_jobs import times
from beam_jobs.raw_errors import RawDataError

from .conftest import FIRST
from .raw_folder import EXPECTED, LOG, TEXT, replace, write
from .reading import csv_text, read


def test_times_of_each_file(folder):
    half = len(LOG) // 2
    replace(folder, "events-1.csv", csv_text(LOG[:half]))
    write(folder, "events-2.csv", csv_text([{**row, "timestamp": row["timestamp"] * 1000} for row in LOG[half:]]))
    result = read(folder)
    assert result.plain() == EXPECTED
    assert {str(form) for form in result.folder.times.values()} == {"seconds since 1970", "milliseconds since 1970"}
    assert result.folder.times[str(folder / "events-1.csv")].earliest == times.EARLIEST
    write(folder, "events-2.csv", csv_text([{**row, "timestamp": row["timestamp"] // 60} for row in LOG[half:]]))
    with pytest.raises(RawDataError, match=r"events-2.csv, column 'timestamp'.*--timestamp-format minutes"):
        read(folder)


def test_files_that_count_and_files_that_do_not(folder):
    left = (
        "events-backup.csv",
        "events-2.csv.bak",
        "events_2021.csv",
        "events.orc",
        "Copy of events.csv",
        "events-old/a.csv",
    )
    for name in left:
        write(folder, name, TEXT)
    for name in ("_SUCCESS", "_temporary/0/part.csv", ".part-0.csv.crc", "deep/er/part-1.csv"):
        write(folder, f"events/{name}", "" if name == "_SUCCESS" else TEXT.replace("r0", "s0"))
    result = read(folder)
    assert [file.path for file in result.folder.event_files] == [
        str(folder / "events.csv"),
        str(folder / "events/deep/er/part-1.csv"),
    ]
    told = "\n".join(result.folder.warnings)
    assert all(name.partition("/")[0] in told for name in left)
    assert any("events.csv" in line and "part-1.csv" in line for line in result.folder.told)


def test_values_of_partitions_stand_for_columns(folder):
    for value in ("a%20b", "__HIVE_DEFAULT_PARTITION__"):
        replace(
            folder, f"items/category={value}/part.csv", csv_text([{"item_id": value[:3], "image": "", "title": "t"}])
        )
    assert {item.item_id: item.columns["category"] for item in read(folder).items} == {"a%2": "a b", "__H": ""}


def test_partitions_are_columns_of_every_table(folder):
    """As pandas and Spark read them: columns of items and users, context columns, and any column by the settings."""
    for name in ("items", "events"):
        (folder / f"{name}.csv").unlink()
    for brand in ("b0", "b1"):
        rows = [{"item_id": f"{brand}{n}", "image": "", "category": "c"} for n in range(3)]
        write(folder, f"items/loaded=20200913/brand={brand}/part.csv", csv_text(rows))
    for country in ("de", "fr"):
        write(folder, f"users/country={country}/part.csv", csv_text([{"user_id": f"u-{country}"}]))
    for device in ("phone", "desk"):
        for day in ("2020-09-13", "2020-09-14"):
            rows = [{"user_id": f"u{n}", "item_id": "b00"} for n in range(3)]
            write(folder, f"events/device={device}/dt={day}/part.csv", csv_text(rows))
    result = read(folder, columns=("timestamp=dt",), context_columns=("device",))
    assert {item.item_id: item.columns["brand"] for item in result.items} == {
        f"{brand}{n}": brand for brand in ("b0", "b1") for n in range(3)
    }
    assert result.folder.user_columns == ("country",) and result.folder.columns == ["category", "brand"]
    assert "items: folders loaded=... tell when rows were written, and are no columns" in result.folder.told
    assert Counter((event.timestamp, event.context) for event in result.events) == {
        (1599955200 + 86400 * day, (device,)): 3 for day in (0, 1) for device in ("phone", "desk")
    }
    assert any("ignored: device" in line for line in read(folder, columns=("timestamp=dt",)).folder.told)
    with pytest.raises(RawDataError, match="no column 'timestamp'; its columns are user_id, item_id, device, dt"):
        read(folder)


def test_files_that_are_none(folder):
    (folder / "events.csv").unlink()
    os.mkfifo(folder / "events.csv")
    with pytest.raises(RawDataError, match="events.csv is no regular file"):
        read(folder)
    (folder / "events.csv").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder / "events.csv"))
        with pytest.raises(RawDataError, match="events.csv is no regular file"):
            read(folder)
    (folder / "events.csv").unlink()
    (folder / "events.csv").mkdir()
    with pytest.raises(RawDataError, match="holds none of events.csv"):
        read(folder)


def test_links(folder, tmp_path_factory):
    outside = write(tmp_path_factory.mktemp("outside"), "log.csv", TEXT)
    (folder / "events.csv").unlink()
    (folder / "events.csv").symlink_to(outside)
    with pytest.raises(RawDataError, match="events.csv is a link that leaves the raw folder, .* --follow-links"):
        read(folder)
    assert read(folder, follow_links=True).plain() == EXPECTED
    (folder / "events.csv").unlink()
    write(folder, "kept/log.csv", TEXT)
    (folder / "events").mkdir()
    (folder / "events/log.csv").symlink_to("../kept/log.csv")
    (folder / "events/loop").symlink_to("..")
    assert read(folder).plain() == EXPECTED


def test_one_table_in_two_packings_is_refused(folder):
    write(folder, "events.csv.gz", gzip.compress(TEXT.encode()))
    with pytest.raises(RawDataError, match=r"events.csv and .*events.csv.gz have one name: keep one"):
        read(folder)


def test_copies_are_warned_of(folder):
    write(folder, "events-2.csv", TEXT)
    told = read(folder).folder.warnings
    assert any("events-2.csv and" in line and "events.csv may be copies" in line for line in told)
    assert LOG[0]["timestamp"] > FIRST
