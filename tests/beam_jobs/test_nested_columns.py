"""Columns inside structs and records: those of JSON, Parquet and Avro have the same names and the same values."""

import io
import itertools
import json

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.formats import RawDataError

from .conftest import photo
from .raw_folder import EXPECTED, LOG, replace
from .reading import read
from .test_formats import rows

NESTED = [
    {
        "actor": {"user_id": row["user_id"], "device": {"kind": "phone"}},
        "product": {"item_id": row["item_id"]},
        **{name: row[name] for name in ("timestamp", "request_id", "clicked")},
    }
    for row in LOG
]
COLUMNS = ("user_id=actor.user_id", "events.item_id=product.item_id")


def parquet(folder, name, table, **settings):
    table = pa.Table.from_pylist(table) if isinstance(table, list) else table
    pq.write_table(table, folder / name, **settings)
    return (folder / name).read_bytes()


def record(value, names):
    """The Avro type of a record as this one, whose fields may all be null."""
    plain = {int: "long", str: "string", list: {"type": "array", "items": "string"}}
    fields = [
        {"name": name, "type": ["null", record(inner, names) if isinstance(inner, dict) else plain[type(inner)]]}
        for name, inner in value.items()
    ]
    return {"type": "record", "name": f"r{next(names)}", "fields": fields}


def avro(rows, schema=None, **settings):
    out = io.BytesIO()
    fastavro.writer(out, schema or record(rows[0], itertools.count()), rows, **settings)
    return out.getvalue()


@pytest.mark.parametrize("seed", range(3))
def test_random_tables_are_those_of_json(tmp_path, seed):
    rng = np.random.default_rng(seed)

    def value(depth):
        if rng.random() < 0.2 and depth < 2:
            return None
        inner = {"inner": value(depth - 1)} if depth else {}
        return {"id": int(rng.integers(100)) if rng.random() < 0.8 else None, "tags": ["a"], **inner}

    table = [{"n": n, "x": value(2)} for n in range(100)]
    table[0]["x"] = {"id": 1, "tags": [], "inner": {"id": 2, "tags": [], "inner": {"id": 3, "tags": []}}}
    names = {"n", "x.id", "x.tags", "x.inner.id", "x.inner.tags", "x.inner.inner.id", "x.inner.inner.tags"}
    expected = rows(tmp_path / "t.jsonl", "\n".join(map(json.dumps, table)))
    expected = [{name: row.get(name, "") for name in names} for row in expected]  # A row of JSON may lack some.
    assert rows(tmp_path / "t.avro", avro(table, sync_interval=500)) == expected
    assert rows(tmp_path / "t.parquet", parquet(tmp_path, "t.parquet", table, row_group_size=30)) == expected


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "avro"])
@pytest.mark.parametrize("columns", [COLUMNS, ("user_id=actor.user_id", "item_id=product.item_id")])
def test_ids_inside_structs(folder, ending, columns):
    if ending == "jsonl":
        content = "\n".join(map(json.dumps, NESTED))
    else:
        content = avro(NESTED) if ending == "avro" else parquet(folder, "events.parquet", NESTED)
    replace(folder, f"events.{ending}", content)
    found = read(folder, columns=columns)
    assert found.plain() == EXPECTED and not found.rejects
    with pytest.raises(RawDataError, match=r"no column 'user_id'; .* give --columns user_id=actor.user_id$"):
        read(folder)


def test_names_that_differ_in_a_dot_alone_are_found(folder):
    """As those of JSON are: `user.id` is `user_id`."""
    log = [{**row, "user": {"id": row["user_id"]}} for row in LOG]
    for row in log:
        del row["user_id"]
    replace(folder, "events.parquet", parquet(folder, "events.parquet", log))
    assert read(folder).plain() == EXPECTED


def test_a_column_whose_name_has_a_dot_is_one_too(tmp_path):
    table = pa.table({"a.b": ["x"], "c": [{"d.e": 1, "f": {"g": None}}]})
    assert rows(tmp_path / "t.parquet", parquet(tmp_path, "t.parquet", table)) == [
        {"a.b": "x", "c.d.e": "1", "c.f.g": ""}
    ]
    twice = pa.table({"a.b": ["x"], "a": [{"b": "y"}]})
    with pytest.raises(RawDataError, match=r"t.parquet has the column 'a.b' twice"):
        rows(tmp_path / "t.parquet", parquet(tmp_path, "t.parquet", twice))


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "avro"])
@pytest.mark.parametrize("width", [50, 51])
def test_attributes_of_many_kinds_are_one_column(tmp_path, ending, width):
    table = [{"a": {f"k{n}": n for n in range(width)}, "b": 1}]
    if ending == "jsonl":
        content = json.dumps(table[0])
    else:
        content = avro(table) if ending == "avro" else parquet(tmp_path, "t.parquet", table)
    (row,) = rows(tmp_path / f"t.{ending}", content)
    assert len(row) == (51 if width == 50 else 2) and row["b"] == "1"
    assert row["a.k7"] == "7" if width == 50 else json.loads(row["a"]) == table[0]["a"]


def test_types_that_hold_themselves_end(tmp_path):
    """A tree inside a record is a value. So is a record that holds itself by way of another one."""
    fields = [{"name": "value", "type": "long"}, {"name": "children", "type": {"type": "array", "items": "n.tree"}}]
    tree = {"type": "record", "name": "tree", "namespace": "n", "fields": fields}
    holder = {"type": "record", "name": "holder", "fields": [{"name": "tree", "type": tree}]}
    a = {"type": "record", "name": "a", "fields": [{"name": "b", "type": ["null", {"type": "record", "name": "b"}]}]}
    a["fields"][0]["type"][1]["fields"] = [{"name": "a", "type": ["null", "a"]}]
    schema = {"type": "record", "name": "r", "fields": [{"name": "h", "type": holder}, {"name": "a", "type": a}]}
    table = [{"h": {"tree": {"value": 1, "children": []}}, "a": {"b": {"a": None}}}]
    (row,) = rows(tmp_path / "t.avro", avro(table, schema))
    assert row["h.tree"] == '{"value": 1, "children": []}' and set(row) - {"h.tree"} == {"a"}


def test_photos_inside_structs(folder):
    items = [{"item_id": f"item{n}", "media": {"main": {"bytes": photo(seed=n), "path": f"{n}.jpg"}}} for n in range(8)]
    replace(folder, "items.parquet", parquet(folder, "items.parquet", items))
    found = read(folder, columns=("items.image=media.main",)).items
    assert [item.photo for item in found] == [item["media"]["main"]["bytes"] for item in items]
