"""Files to rows, line by line: a broken line costs itself, a broken file names itself."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.formats import RawDataError, columns_of, is_unicode, rows_of


def csv_rows(text: str) -> list:
    return list(rows_of("t.csv", io.BytesIO(text.encode())))


def test_a_quote_left_open_costs_its_own_line():
    lines = [f"u{number},i{number}" for number in range(5000)]
    lines[7] = 'u7,"i7'
    lines[4000] = 'u4000,"i4000'  # The other end of one huge field, for a reader that goes on over the line end.
    rows = csv_rows("user_id,item_id\n" + "\n".join(lines) + "\n")
    assert len(rows) == 5000
    for number, row in enumerate(rows):
        if number in (7, 4000):
            assert "a quote is not closed on its line (line breaks inside a field are not read)" in row
        else:
            assert row == {"user_id": f"u{number}", "item_id": f"i{number}"}


def test_quotes_within_a_line_are_read():
    rows = csv_rows('a,b\r\n"x, y","say ""z"""\r\n5" wide,\r\n\r\n1\r\n')
    read = [{"a": "x, y", "b": 'say "z"'}, {"a": '5" wide', "b": ""}]
    assert rows == [*read, "is an empty line", "has 1 fields, the header has 2"]


def test_a_field_beyond_the_limit_of_the_csv_module(tmp_path):
    huge = "x" * 200_000
    rows = csv_rows(f"a,b\n1,{huge}\n2,3\n")
    assert "field larger than field limit" in rows[0] and rows[1:] == [{"a": "2", "b": "3"}]
    file = tmp_path / "t.csv"
    file.write_text(f"{huge},b\n")
    with pytest.raises(RawDataError, match=r"t.csv, its first line is not CSV: field larger"):
        columns_of(str(file))


def test_column_names_must_be_unicode(tmp_path):
    file = tmp_path / "t.csv"
    file.write_bytes(b"a,caf\xe9\n1,2\n")
    with pytest.raises(RawDataError, match=r"t.csv, its column names are not UTF-8"):
        columns_of(str(file))


def test_json_lines_that_python_cannot_hold():
    lines = ['\ufeff{"a": 1}', "[" * 100_000, '{"a": ' + "9" * 5000 + "}", '{"a": 2.0, "b": null}', "[3]"]
    rows = list(rows_of("t.jsonl", io.BytesIO("\n".join(lines).encode())))
    assert rows[0] == {"a": "1"} and rows[3] == {"a": "2", "b": ""} and rows[4] == "is not a JSON object"
    assert rows[1].startswith("is not JSON") and rows[2].startswith("is not JSON")


def test_what_pandas_writes_for_a_missing_value_is_none(tmp_path):
    """Else all users without an id would be one, whose name is "nan"."""
    rows = list(rows_of("t.jsonl", io.BytesIO(b'{"a": NaN, "b": "nan", "c": null, "d": 0.5}')))
    assert rows == [{"a": "", "b": "nan", "c": "", "d": "0.5"}]
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": pa.array([7.0, float("nan"), None])}), file)
    with file.open("rb") as stream:
        assert list(rows_of(str(file), stream)) == [{"a": "7"}, {"a": ""}, {"a": ""}]


@pytest.mark.parametrize("kind", [pa.binary(), pa.string(), pa.large_string()])
def test_texts_of_parquet_files(tmp_path, kind):
    texts = [b"abc", "caf\u00e9".encode(), b"\xff", None]
    unchecked = pa.array(texts, pa.large_binary() if kind == pa.large_string() else pa.binary())
    column = pa.Array.from_buffers(kind, 4, unchecked.buffers())
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": column, "n": pa.array([1, 2, 3, 4])}), file)
    with file.open("rb") as stream:
        rows = list(rows_of(str(file), stream))
    assert [row["n"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["a"] for row in rows][:2] == ["abc", "caf\u00e9"] and rows[3]["a"] == ""
    assert [is_unicode(row["a"]) for row in rows] == [True, True, False, True]


def test_a_broken_parquet_file_names_itself(tmp_path):
    file = tmp_path / "t.parquet"
    file.write_bytes(b"PAR1 and no more")
    with pytest.raises(RawDataError, match=r"t.parquet is no readable Parquet file"):
        columns_of(str(file))
