"""The columns of raw tables: their names, their assignment by settings, their kinds of value."""

import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.raw_errors import RawDataError

from .conftest import photo
from .raw_folder import EXPECTED, FRAME, ITEMS, LINES, LOG, TEXT, replace, write
from .reading import csv_text, read


def test_columns_by_the_settings(folder):
    names = {"user_id": "customer", "item_id": "ProductID", "timestamp": "ts", "clicked": "is_click"}
    write(folder, "events.csv", csv_text(FRAME.rename(columns=names).to_dict("records")))
    write(
        folder,
        "items.csv",
        csv_text([{"sku": r["item_id"], "img_url": r["image"], "type": r["category"]} for r in ITEMS]),
    )
    columns = [f"{ours}={theirs}" for ours, theirs in names.items()]
    columns += ["items.item_id=SKU", "image=img_url", "category=type"]
    result = read(folder, columns=tuple(columns))
    assert result.plain() == EXPECTED
    assert [(i.item_id, i.image, i.columns["category"], i.title) for i in result.items] == [
        (r["item_id"], r["image"], r["category"], "") for r in ITEMS
    ]
    with pytest.raises(RawDataError, match=r"no column 'tss', which --columns timestamp=tss names.*did you mean 'ts'"):
        read(folder, columns=(*columns[:2], "timestamp=tss", *columns[3:]))


@pytest.mark.parametrize("assignment", ["item_id=ProductID", "title=Nope", "events.user_id=Nope"])
def test_a_column_that_no_file_has_is_refused(folder, assignment):
    with pytest.raises(RawDataError, match=assignment.partition("=")[2]):
        read(folder, columns=(assignment,))


@pytest.mark.parametrize("name", ["Item_ID", " item_id", "item_id\u00a0", "ITEM ID", "itemId", "\u200bitem-id"])
def test_case_and_blanks_of_names(folder, name):
    write(folder, "items.csv", csv_text(ITEMS).replace("item_id", name, 1))
    result = read(folder)
    assert [item.item_id for item in result.items] == [row["item_id"] for row in ITEMS]
    assert any(line.endswith("is read as item_id") and line.isprintable() for line in result.folder.told)


def test_two_columns_that_may_be_one(folder):
    rows = [{**row, " colour": "red", "Category": "x"} for row in ITEMS]
    write(folder, "items.csv", csv_text(rows))
    result = read(folder)
    assert result.folder.columns == ["category", "colour", "Category"]
    assert result.items[1].columns == {"category": "c1", "colour": "red", "Category": "x"}
    write(folder, "items.csv", csv_text([{"item_id": "a", "Category": "x", "category ": "y"}]))
    with pytest.raises(RawDataError, match="has the columns 'Category' and 'category ', of which each may be category"):
        read(folder)


@pytest.mark.parametrize("name", ["items.csv", "events.csv"])
@pytest.mark.parametrize("column", ["item_id", "colour"])
def test_a_column_name_twice_is_refused(folder, name, column):
    header, _, rest = (folder / name).read_text().partition("\n")
    write(folder, name, f"{header},{column},{column}\n{rest}")
    with pytest.raises(RawDataError, match=f"{name} has the column '{column}' twice"):
        read(folder)


def test_a_column_name_twice_in_json_and_parquet(folder):
    line = '{"user_id": "a", "item_id": "item1", "timestamp": 1600000000, "clicked": 1, "user_id": "b"}\n'
    file = replace(folder, "events.jsonl", line)
    with pytest.raises(RawDataError, match="events.jsonl, row 1 has the field 'user_id' twice"):
        read(folder)
    file.write_text(LINES * 20 + line)
    assert f"row {20 * len(LOG) + 1} has the field 'user_id' twice" in read(folder).broken[0]
    file.unlink()
    table = pa.Table.from_pandas(FRAME)
    pq.write_table(table.append_column("item_id", table["user_id"]), folder / "events.parquet")
    with pytest.raises(RawDataError, match="events.parquet has the column 'item_id' twice"):
        read(folder)


def test_a_second_header_is_one_reject(folder):
    write(folder, "items.csv", csv_text(ITEMS) + "\ufeff" + csv_text(ITEMS[:1]))
    result = read(folder)
    assert result.rejects == {("item", "", "repeats the header"): 1} and len(result.items) == 9
    header, _, rest = csv_text(ITEMS).partition("\n")
    write(folder, "items.csv", csv_text(ITEMS) + header.title() + "\n" + header.upper() + "\n" + rest)
    assert read(folder).rejects == {("item", "", "repeats the header"): 2}
    write(folder, "events.csv", TEXT * 8 + "item_id,user_id,timestamp,request_id,clicked\nitem1,u1,1600000000,r,1\n")
    assert "a second header with its columns in another order" in read(folder).broken[0]


def test_a_part_file_without_rows_or_without_a_header(folder):
    for number, content in enumerate((TEXT, "", b"\xef\xbb\xbf", TEXT.partition("\n")[0])):
        replace(folder, f"events/part-{number}.csv", content)
    assert read(folder).plain() == EXPECTED
    write(folder, "events/part-9.csv", TEXT.partition("\n")[2])
    with pytest.raises(RawDataError, match="part-9.csv has no column 'user_id'.*first line looks like a row"):
        read(folder)


def test_dates_of_items(folder):
    dates = ["0", "NULL", "1970-01-01", "", "1599955200", "1599955200000", "2020-09-01 00:00:00", "next week"]
    write(folder, "items.csv", csv_text([{**r, "available_from": d} for r, d in zip(ITEMS, dates, strict=True)]))
    expected = [None, None, None, None, 1599955200, 1599955200, 1598918400, None]
    assert [item.available_from for item in read(folder).items] == expected


def test_long_texts_are_rejects(folder):
    write(folder, "items.csv", csv_text([{**ITEMS[0], "title": "x" * 70_000}, *ITEMS[1:]]))
    assert read(folder).rejects == {("item", "title", "is longer than 65,536 bytes"): 1}


@pytest.mark.parametrize("shape", ["bytes", "struct", "list"])
def test_photos_inside_a_parquet_file(folder, shape):
    photos = [photo(seed=number) for number in range(7)] + [None]
    values = {
        "bytes": pa.array(photos, pa.binary()),
        "struct": pa.array([{"bytes": b, "path": f"{n}.jpg"} for n, b in enumerate(photos)]),
        "list": pa.array([None if b is None else list(b) for b in photos], pa.list_(pa.uint8())),
    }[shape]
    table = pa.Table.from_pandas(pd.DataFrame(ITEMS).drop(columns="image")).append_column("image", values)
    pq.write_table(table.append_column("thumbnail", values), folder / "items.parquet")
    (folder / "items.csv").unlink()
    result = read(folder)
    assert [item.photo for item in result.items] == photos
    assert [item.image for item in result.items] == ([f"{n}.jpg" for n in range(8)] if shape == "struct" else [""] * 8)
    assert result.folder.columns == ["category"] and any("thumbnail" in line for line in result.folder.warnings)


def test_objects_inside_objects(folder):
    def nested(row):
        when = {"$date": str(pd.Timestamp(row["timestamp"], unit="s"))}
        return {"user": {"id": {"$oid": row["user_id"]}}, "p": {"item": {"sku": row["item_id"]}, "n.x": 1},
                "timestamp": when, "context": {"request": row["request_id"], "clicked": row["clicked"]}}  # fmt: skip

    replace(folder, "events.jsonl", "".join(json.dumps(nested(row)) + "\n" for row in LOG))
    named = ("events.item_id=p.item.sku", "request_id=context.request", "clicked=context.clicked")
    result = read(folder, columns=named)
    assert result.plain() == EXPECTED
    assert "events: column 'user.id' is read as user_id" in result.folder.told
    with pytest.raises(RawDataError, match="no column 'item_id'; its columns are user.id, p.item.sku, p.n.x"):
        read(folder)


@pytest.mark.parametrize("indent", [None, 2])
def test_one_object_around_all_rows_is_refused_with_the_way_out(folder, indent):
    """As the answer of a web service. Where the column is there, a list of objects is one column as any other."""
    for table, rows in (("items", ITEMS), ("events", LOG)):
        content = json.dumps({"data\x1b": rows, "total": len(rows), "links": ["a"]}, indent=indent)
        replace(folder, f"{table}.json", content)
        with pytest.raises(
            RawDataError, match=rf"{table}.json is one object, and its field 'data\\x1b' holds the rows"
        ):
            read(folder)
        replace(folder, f"{table}.json", json.dumps([*rows], indent=indent))
    assert read(folder).plain() == EXPECTED
    several = [{"sku": row["item_id"], "variants": [{"size": 1}]} for row in ITEMS]
    replace(folder, "items.json", "\n".join(json.dumps(row, indent=indent) for row in several))
    with pytest.raises(RawDataError, match="items.json has no column 'item_id'; its columns are sku, variants"):
        read(folder)
    replace(folder, "items.json", json.dumps({**ITEMS[0], "variants": [{"size": 1}]}, indent=indent))
    assert [item.item_id for item in read(folder).items] == [ITEMS[0]["item_id"]]


def test_objects_of_free_names_are_one_column(folder):
    rows = [{**row, "facts": {f"k{n}-{k}": k for k in range(20)}, "size": {"w": n}} for n, row in enumerate(ITEMS)]
    replace(folder, "items.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    result = read(folder)
    assert result.folder.columns == ["category", "size.w", "facts"]
    for number, item in enumerate(result.items):
        assert json.loads(item.columns["facts"]) == rows[number]["facts"] and item.columns["size.w"] == str(number)


@pytest.mark.parametrize(
    "several",
    [
        lambda image: f"{image}|images/x.png", lambda image: f"{image}, images/x.JPG",
        lambda image: json.dumps([image, "b.jpg"]), lambda image: json.dumps([{"id": 3, "src": image}]),
    ],
)  # fmt: skip
def test_the_first_of_several_photos_is_taken_and_told(folder, several):
    rows = [{**row, "image": several(row["image"])} for row in ITEMS]
    write(folder, "items.csv", pd.DataFrame(rows).to_csv(index=False))
    result = read(folder)
    assert [item.image for item in result.items] == [row["image"] for row in ITEMS]
    assert any("name several photos, of which the first is taken" in line for line in result.folder.told)
    rows = [{**row, "image": json.loads(row["image"]) if row["image"][0] == "[" else row["image"]} for row in rows]
    replace(folder, "items.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert [item.image for item in read(folder).items] == [row["image"] for row in ITEMS]
