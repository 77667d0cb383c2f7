"""Tables of BigQuery as raw tables, with a fake of Google's client and of Beam's step that reads them."""

import datetime
import random
import sys
from collections import Counter
from types import SimpleNamespace

import apache_beam as beam
import pytest

from beam_jobs import bigquery
from beam_jobs.early import readable
from beam_jobs.formats import RawDataError
from beam_jobs.raw_fingerprint import fingerprint_of_raw
from courier_tf import schema
from courier_tf.settings import IngestSettings, SettingsError
from courier_tf.workdir import records

from .conftest import impression_log, photo

ITEMS, EVENTS = "bigquery://my-shop.logs.items", "bigquery://my-shop.logs.events"
CHANGED = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
FIELDS = {
    ITEMS: {"item_id": "STRING", "photo": "BYTES", "category": "STRING", "tags": "STRING*", "price": "NUMERIC"},
    EVENTS: {"user": "INTEGER", "item_id": "STRING", "at": "TIMESTAMP", "request_id": "STRING", "clicked": "BOOLEAN"},
}
COLUMNS = ("items.image=photo", "user_id=user", "timestamp=at")


def described(name, kind):
    """A field as Google's client describes it: a dictionary is a record, a list of one a repeated record."""
    if isinstance(kind, dict | list):
        mode = "NULLABLE" if isinstance(kind, dict) else "REPEATED"
        fields = [described(*field) for field in (kind if isinstance(kind, dict) else kind[0]).items()]
        return SimpleNamespace(name=name, field_type="RECORD", mode=mode, fields=fields)
    return SimpleNamespace(name=name, field_type=kind.rstrip("*"), mode="REPEATED" if kind[-1] == "*" else "NULLABLE")


class Cloud:
    """What stands for BigQuery: its tables, and what was asked for."""

    def __init__(self) -> None:
        self.tables: dict[str, list[dict]] = {}
        self.asked: list[dict] = []
        self.changed = CHANGED

    def Client(self, project):  # noqa: N802 (the name of the class)
        assert project == "my-shop"
        return self

    def get_table(self, name):
        if f"bigquery://{name}" not in self.tables:
            raise RuntimeError(f"404 Not found:\n Table {name}")
        fields = [described(field, kind) for field, kind in FIELDS[f"bigquery://{name}"].items()]
        rows = self.tables[f"bigquery://{name}"]
        return SimpleNamespace(name=name, schema=fields, num_rows=len(rows), modified=self.changed)

    def list_rows(self, table, selected_fields, page_size):
        names = [field.name for field in selected_fields]
        rows = [{name: row[name] for name in names} for row in self.tables[f"bigquery://{table.name}"]]
        pages = [rows[n : n + page_size] for n in range(0, len(rows), page_size)]
        return SimpleNamespace(pages=pages)

    def step(self, **asked):
        self.asked.append(asked)
        rows = self.tables["bigquery://" + asked["table"].replace(":", ".", 1)]
        return beam.Create([{name: row[name] for name in asked["selected_fields"]} for row in rows])


@pytest.fixture
def cloud(monkeypatch):
    fake = Cloud()
    monkeypatch.setitem(sys.modules, "google.cloud.bigquery", fake)
    step = fake.step
    step_class = type("Step", (), {"Method": beam.io.ReadFromBigQuery.Method, "__new__": lambda _, **a: step(**a)})
    monkeypatch.setattr(beam.io, "ReadFromBigQuery", step_class)
    return fake


def fill(cloud, log) -> None:
    cloud.tables[ITEMS] = [
        {"item_id": f"item{n}", "photo": photo(seed=n), "category": f"c{n % 3}", "tags": ["a", "b"], "price": None}
        for n in range(8)
    ]
    cloud.tables[EVENTS] = [
        {
            "user": int(row["user_id"][1:]),
            "item_id": row["item_id"],
            "at": datetime.datetime.fromtimestamp(row["timestamp"], datetime.UTC),
            "request_id": row["request_id"],
            "clicked": bool(row["clicked"]),
        }
        for row in log
    ]


def shown(ingested, prefix=""):
    """The impressions, without the order of equal seconds: rows of tables have none."""
    return Counter(
        (prefix + row["user_id"], row["item_id"], row["timestamp"], row["clicked"], *sorted(row["history_item_ids"]))
        for split in schema.SPLITS
        for row in ingested.rows("impressions", split)
    )


@pytest.mark.slow
def test_tables_are_read_as_files_are(raw, tmp_path, cloud):
    log = impression_log()
    fill(cloud, log)
    cloud.tables[EVENTS] += [{**cloud.tables[EVENTS][0], "at": None}, {**cloud.tables[EVENTS][1], "item_id": None}]
    settings = {"items_table": ITEMS, "events_table": EVENTS, "columns": COLUMNS, "history_kept": 100}
    from_tables = raw.ingest(tmp_path / "tables", **settings)
    for rows in cloud.tables.values():
        random.Random(0).shuffle(rows)
    again = raw.ingest(tmp_path / "again", **settings)
    for folder, prefix in (("impressions", "train"), ("page_views", "train"), ("items", "items")):
        for file, other in zip(
            *(sorted((made.target / folder).glob(f"{prefix}-*")) for made in (from_tables, again)), strict=True
        ):
            assert file.read_bytes() == other.read_bytes()
    assert {row["file"] for row in from_tables.rejects()} == {EVENTS}
    assert Counter(row["field"] for row in from_tables.rejects()) == {"timestamp": 1, "item_id": 1}
    assert from_tables.rejects() == again.rejects() and from_tables.facts.counts["event_rows_read"] == len(log) + 2

    raw.write("items", raw.items())
    raw.write("events", log)
    of_files = raw.ingest(tmp_path / "files", history_kept=100)
    assert shown(from_tables, "u") == shown(of_files)
    photos = [records.read_items(made.target, ["category"]).photos for made in (from_tables, of_files)]
    assert (photos[0] == photos[1]).all() and all(photos[0])
    assert cloud.asked[0] == {
        "method": beam.io.ReadFromBigQuery.Method.DIRECT_READ,
        "table": "my-shop:logs.items",
        "selected_fields": ["item_id", "photo", "category", "tags", "price"],
        "use_native_datetime": True,
    }
    assert sorted(cloud.asked[1]["selected_fields"]) == ["at", "clicked", "item_id", "request_id", "user"]


def test_columns_inside_records(raw, cloud, monkeypatch):
    """As in the exports of Google Analytics. A repeated record is a text."""
    geo = {"country": "STRING", "at": "TIMESTAMP"}
    monkeypatch.setitem(FIELDS, EVENTS, FIELDS[EVENTS] | {"geo": geo, "items": [{"sku": "STRING"}]})
    fill(cloud, impression_log())
    moment = datetime.datetime(2020, 9, 14, tzinfo=datetime.UTC)
    for number, row in enumerate(cloud.tables[EVENTS]):
        row |= {"geo": {"country": f"c{number % 2}", "at": moment} if number % 3 else None, "items": [{"sku": "a"}]}
    types = bigquery.types_of(EVENTS)
    assert list(types)[-3:] == ["geo.country", "geo.at", "items"] and str(types["geo.at"]) == "timestamp[us, tz=UTC]"
    columns = (("country", "geo.country"), ("at", "geo.at"), ("items", "items"), ("item_id", "item_id"))
    (page, *_) = bigquery.first_rows(EVENTS, columns, 6)
    batch = bigquery.batch_of(EVENTS, types, columns, page)
    assert batch["geo.country"].to_pylist() == [None, "c1", "c0", None, "c0", "c1"]
    assert batch["geo.at"].to_pylist() == [None, moment, moment] * 2
    assert set(batch["items"].to_pylist()) == {'[{"sku": "a"}]'}


def test_a_table_that_has_changed_is_another_input(raw, cloud):
    fill(cloud, impression_log())
    raw.write("items", raw.items())
    settings = IngestSettings(events_table=EVENTS)
    before = fingerprint_of_raw(str(raw.folder), settings)
    assert fingerprint_of_raw(str(raw.folder), settings) == before
    cloud.changed += datetime.timedelta(seconds=1)
    changed = fingerprint_of_raw(str(raw.folder), settings)
    raw.write("items", raw.items(7))
    assert len({before, changed, fingerprint_of_raw(str(raw.folder), settings)}) == 3


def test_what_cannot_be_read_is_one_line(raw, cloud, monkeypatch):
    raw.write("items", raw.items())
    settings = IngestSettings(events_table=EVENTS, columns=COLUMNS[1:])
    with pytest.raises(RawDataError, match="events: BigQuery says: 404 Not found: Table my-shop.logs.events") as told:
        readable(str(raw.folder), settings)
    assert "\n" not in str(told.value)
    fill(cloud, impression_log())
    for row in cloud.tables[EVENTS]:
        row["item_id"] = ["item1"]
    with pytest.raises(RawDataError, match="column 'item_id' holds .* which is no single id"):
        readable(str(raw.folder), settings)
    monkeypatch.setitem(sys.modules, "google.cloud.bigquery", None)
    with pytest.raises(RawDataError, match=r"the extra `beam`: pip install 'courier-tf\[beam\]'$") as told:
        readable(str(raw.folder), settings)
    assert "\n" not in str(told.value)
    for wrong in ("bigquery://p.d", "gs://p/d", "bigquery://My-Shop.logs.events", "my-shop.logs.events"):
        with pytest.raises(SettingsError, match="is not bigquery://PROJECT.DATASET.TABLE"):
            IngestSettings(events_table=wrong)
