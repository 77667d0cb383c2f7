"""Files to rows: a broken line costs itself, a broken file names itself."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs import dialects
from beam_jobs.formats import NoRow, RawDataError, columns_of, is_unicode, rows_of
from beam_jobs.raw_rows import RawFile


def file_of(path) -> RawFile:
    dialect = dialects.detect(str(path))
    columns = columns_of(str(path), dialect, every_row=True)
    return RawFile(str(path), dialect, tuple(columns), tuple(zip(columns, columns, strict=True)))


def rows(path, content: bytes | str | None = None) -> list:
    """The fields of each row of a file, or the reason why a line is none."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    read = list(rows_of(file_of(path)))
    numbers = [row.row for row in read]
    assert numbers == sorted(set(numbers))
    return [row.reason if isinstance(row, NoRow) else row.fields for row in read]


@pytest.fixture
def table(tmp_path):
    return tmp_path / "t.csv"


def test_a_quote_left_open_costs_its_own_line(table):
    lines = [f"u{number},i{number}" for number in range(5000)]
    lines[7] = 'u7,"i7'
    lines[4000] = 'u4000,"i4000'  # The other end of one huge field, for a reader that goes on over the line end.
    read = rows(table, "user_id,item_id\n" + "\n".join(lines) + "\n")
    assert len(read) == 5000
    for number, row in enumerate(read):
        if number in (7, 4000):
            assert row == "is not CSV: a quote is not closed"
        else:
            assert row == {"user_id": f"u{number}", "item_id": f"i{number}"}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_quoted_line_breaks_are_read(table, end):
    text = end.join(["a,b,c", f'1,"two{end}lines, ""and"" more{end}",x', '2,"",y', f'3,z,"{end}"', ""])
    assert rows(table, text) == [
        {"a": "1", "b": f'two{end}lines, "and" more{end}', "c": "x"},
        {"a": "2", "b": "", "c": "y"},
        {"a": "3", "b": "z", "c": end},
    ]


def test_half_of_a_broken_record_is_no_event(table):
    """The end of a record with a line break had as many fields as the header: an event of a user `1"`."""
    text = 'user_id,item_id,timestamp\n"u\n1",i1,5\nu2,i2,6\n1",i3,7\nu4,"i4" ,8\n'
    read = rows(table, text)
    assert read[0] == {"user_id": "u\n1", "item_id": "i1", "timestamp": "5"}
    assert read[1] == {"user_id": "u2", "item_id": "i2", "timestamp": "6"}
    assert read[2] == "holds a quote that encloses nothing" and read[3].startswith("is not CSV")


def test_quotes_within_a_line_are_read(table):
    read = rows(table, 'a,b\r\n"x, y","say ""z"""\r\n5" wide,\r\n\r\n1\r\n')
    expected = [{"a": "x, y", "b": 'say "z"'}, {"a": '5" wide', "b": ""}]
    assert read == [*expected, "has 1 fields, the header has 2"]
    assert [row.row for row in rows_of(file_of(table))] == [1, 2, 4]


def test_long_lines_and_many_columns_end_soon(table, monkeypatch):
    assert rows(table, f"a,b\n1,{'x' * 200_000}\n2,3\n")[1] == {"a": "2", "b": "3"}
    monkeypatch.setattr("beam_jobs.csv_rows.MAX_LINE", 500_000)
    monkeypatch.setattr("beam_jobs.texts.MAX_LINE", 500_000)
    for row in (f"1,{'x' * 3_000_000}", f'1,"{"x" * 3_000_000}"'):
        assert rows(table, f"a,b\n{row}\n2,3\n") == ["has more than 500,000 characters", {"a": "2", "b": "3"}]
    for header, reason in (("x" * 3_000_000, "its first line has more than"), ("a," * 20_000, "more than 1,000")):
        table.write_text(f"{header},b\n1,2\n")
        with pytest.raises(RawDataError, match=reason):
            file_of(table)
    wide = json.dumps({f"c{number}": 1 for number in range(1001)})
    table.write_text(wide + "\n")
    with pytest.raises(RawDataError, match="row 1 has 1,001 fields"):
        file_of(table)


def test_column_names_must_be_unicode(table):
    table.write_bytes(b"a,caf\xe9\n1,2\n")
    with pytest.raises(RawDataError, match=r"t.csv, its column names are not UTF-8"):
        file_of(table)


def test_json_lines_that_python_cannot_hold(tmp_path):
    lines = ['\ufeff{"a": 1}', "[" * 100_000, '{"a": ' + "9" * 5000 + "}", '{"a": 2.0, "b": null}', "[3]"]
    read = rows(tmp_path / "t.jsonl", "\n".join(lines))
    assert read[0] == {"a": "1"} and read[3] == {"a": "2", "b": ""} and read[4] == "is not a JSON object"
    assert read[1].startswith("is not JSON") and read[2].startswith("is not JSON")


def test_what_pandas_writes_for_a_missing_value_is_none(tmp_path):
    """Else all users without an id would be one, whose name is "nan"."""
    read = rows(tmp_path / "t.jsonl", '{"a": NaN, "b": "nan", "c": null, "d": 0.5}')
    assert read == [{"a": "", "b": "nan", "c": "", "d": "0.5"}]
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": pa.array([7.0, float("nan"), None])}), file)
    assert rows(file) == [{"a": "7"}, {"a": ""}, {"a": ""}]


@pytest.mark.parametrize("kind", [pa.binary(), pa.string(), pa.large_string()])
def test_texts_of_parquet_files(tmp_path, kind):
    texts = [b"abc", "caf\u00e9".encode(), b"\xff", None]
    unchecked = pa.array(texts, pa.large_binary() if kind == pa.large_string() else pa.binary())
    column = pa.Array.from_buffers(kind, 4, unchecked.buffers())
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": column, "n": pa.array([1, 2, 3, 4])}), file)
    read = rows(file)
    assert [row["a"] for row in read[:2]] == ["abc", "caf\u00e9"] and read[3] == {"a": "", "n": "4"}
    assert read[2] == "is not UTF-8" and not is_unicode(b"\xff".decode(errors="surrogateescape"))


def test_a_broken_parquet_file_names_itself(tmp_path):
    file = tmp_path / "t.parquet"
    file.write_bytes(b"PAR1 and no more")
    with pytest.raises(RawDataError, match=r"t.parquet is no readable Parquet file"):
        file_of(file)


def test_an_open_quote_swallows_no_row_of_its_own(table):
    read = rows(table, 'user_id,item_id\nu1,"i1\nu2,i2\nu3,i3"\nu4,i4\n')
    assert read[0] == "is not CSV: a quote is not closed" and read[2] == "holds a quote that encloses nothing"
    assert read[1::2] == [{"user_id": "u2", "item_id": "i2"}, {"user_id": "u4", "item_id": "i4"}]
