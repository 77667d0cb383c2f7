"""Records of CSV: what Python's csv and pandas write is read as they read it, and a stray quote costs its own line."""

import csv
import io

import numpy as np
import pandas as pd
import pytest

from beam_jobs import csv_rows
from beam_jobs.formats import rows_of

from . import test_formats
from .test_formats import rows

HEADER = ["item_id", "image", "category", "colour", "description", "available_from"]
WORDS = ["cotton", "silk", 'a 5" heel', "Material:", "wool", "red", "", "12,5", "wash at 30", "Größe", '"slim"', "\t"]
JOINTS = [", ", ", ", ",", "\n", "\n", "\r\n", " ", "\n\n", '"', ";"]


def written(table: list[list[str]], **settings) -> str:
    out = io.StringIO()
    csv.writer(out, **{"lineterminator": "\n"} | settings).writerows(table)
    return out.getvalue()


def fields(path, text: str) -> list[list[str]]:
    """The rows of a file, of which none is rejected."""
    read = rows(path, text)
    assert not [row for row in read if isinstance(row, str)]
    return [list(row.values()) for row in read]


@pytest.fixture
def table(tmp_path):
    return tmp_path / "items.csv"


def text_of(rng: np.random.Generator) -> str:
    """A text of several lines, of words and commas."""
    pieces = [str(rng.choice(words)) for _ in range(int(rng.integers(1, 12))) for words in (WORDS, JOINTS)]
    return "".join(pieces[:-1])


def catalogue(rng: np.random.Generator, ids: str) -> list[list[str]]:
    return [
        [
            ids.format(number),
            f"images/{number}.jpg" if rng.random() < 0.9 else "",
            "c",
            "red",
            text_of(rng),
            "2020-01-01",
        ]
        for number in range(100)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_texts_of_several_lines_are_read_as_csv_reads_them(seed, table):
    """A line of a text with as many commas as a row became a row of its own, an item that does not exist."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(HEADER))
    lines = [HEADER, *catalogue(rng, str(rng.choice(["i{}", "{}", "SKU-{}-x"])))]
    settings = {
        "lineterminator": str(rng.choice(["\n", "\r\n"])),
        "delimiter": str(rng.choice([",", ";", "\t"])),
        "quoting": int(rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])),
    }
    text = written([[line[place] for place in order] for line in lines], **settings)
    oracle = list(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=settings["delimiter"]))
    assert fields(table, text) == oracle[1:]


def test_a_line_of_a_text_with_the_commas_of_a_row_is_no_item(table):
    text = "Material:\ncotton, silk, wool, linen, denim, fleece\nWash at 30"
    lines = [[f"i{n}", f"images/{n}.jpg", "c", "red", text if n == 3 else "plain", ""] for n in range(300)]
    assert fields(table, written([HEADER, *lines])) == lines


def test_rows_are_told_from_texts_without_ids(table):
    text = 'a,b,c\n1,"x\ny, z, w\nv",2\n3,4,"x\n5,6,7\n8,9,10"\n'
    assert rows(table, text)[0] == {"a": "1", "b": "x\ny, z, w\nv", "c": "2"}
    assert rows(table, text)[1:] == [
        "is not CSV: a quote is not closed",
        {"a": "5", "b": "6", "c": "7"},
        {"a": "8", "b": "9", "c": '10"'},
    ]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_stray_quote_swallows_no_row(seed, delimiter, table):
    """One that opens a field and one that ends a later one make a record of CSV of the rows between them."""
    rng = np.random.default_rng(seed)
    header = [str(name) for name in rng.permutation(["item_id", "image", "category", "title", "price"])]
    lines, broken = [], []
    for number in range(400):
        title = str(rng.choice(["lamp", "Retro lamp", 'Monitor 27"', 'a 5" heel']))
        broken.append(rng.random() < 0.03)
        row = {"item_id": f"i{number}", "image": f"images/{number}.jpg", "category": f"c{number % 3}", "price": "7"}
        row["title"] = f'"{title}'.rstrip('"') if broken[-1] else title
        lines.append([row[name] for name in header])
    read = rows(table, "".join(delimiter.join(line) + "\n" for line in [header, *lines]))
    assert len(read) == len(lines)
    for row, line, is_broken in zip(read, lines, broken, strict=True):
        assert row[:10] == "is not CSV" if is_broken else row == dict(zip(header, line, strict=True))


def test_many_texts_of_several_lines_are_no_work_that_is_limited(table, monkeypatch):
    monkeypatch.setattr(csv_rows, "LOOK_AHEAD", 1000)
    lines = [[f"i{n}", "x.jpg", "one, two\n" * 20] for n in range(300)]
    assert fields(table, written([["item_id", "image", "text"], *lines])) == lines


def test_many_stray_quotes_end_soon(table, monkeypatch):
    """Where the work is used up, lines with as many fields as the header are rows."""
    monkeypatch.setattr(csv_rows, "LOOK_AHEAD", 1000)
    lines = [f'"{n},i{n},x.jpg' for n in range(300)]
    lines.insert(200, "t,i,x.jpg")
    read = rows(table, "title,item_id,image\n" + "\n".join(lines) + "\n")
    assert read.pop(200) == {"title": "t", "item_id": "i", "image": "x.jpg"}
    assert set(read) == {"is not CSV: a quote is not closed"}


TITLES = [
    '"Retro lamp',
    'Monitor 27"',
    '"Slim" fit 5"',
    '"',
    'a "b" c',
    '""',
    "plain",
    '5" - 6"',
    '"Slim" fit',
    "l'été",
]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("delimiter", ["\t", "|", "\x01"])
def test_quotes_are_text_where_they_do_not_parse(seed, delimiter, table):
    """Two of them joined rows to one item whose title held tabs and a line break, or were rejects."""
    rng = np.random.default_rng(seed)
    header = [str(name) for name in rng.permutation(["item_id", "image", "category", "title"])]
    titles = rng.choice(TITLES, 200)
    of_rows = [
        {"item_id": f"i{n}", "image": f"images/{n}.jpg", "category": "c", "title": str(titles[n])} for n in range(200)
    ]
    lines = [[row[name] for name in header] for row in of_rows]
    text = "".join(delimiter.join(line) + "\n" for line in [header, *lines])
    assert fields(table, text) == lines


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("seed", range(5))
def test_quotes_enclose_where_they_parse(seed, quoting, table):
    rng = np.random.default_rng(seed)
    texts = [*TITLES, "a\tb", "a\nb", "a\tb\nc\td", 'a "b"\n\tc']
    lines = [[f"i{n}", str(rng.choice(texts)), f"{n}.jpg"] for n in range(100)]
    text = written([["item_id", "title", "image"], *lines], delimiter="\t", quoting=quoting)
    assert fields(table, text) == lines


def test_a_stray_quote_is_text_behind_the_rows_that_were_looked_at(table):
    lines = [[f"i{n}", "lamp", f"{n}.jpg"] for n in range(5000)]
    lines[3000][1], lines[3001][1], lines[4000][1], lines[4999][1] = '"Retro', '27"', '"Slim" fit 5"', '"Last'
    text = "".join("\t".join(line) + "\n" for line in [["item_id", "title", "image"], *lines])
    assert fields(table, text) == lines


def test_a_stray_quote_in_a_table_of_quoted_fields_leaves_the_quotes_of_the_others(table):
    lines = [[f'"i{n}"', '"lamp"', f'"{n}.jpg"'] for n in range(50)]
    lines[7][1] = '"27" lamp"'
    text = "".join("\t".join(line) + "\n" for line in [["item_id", "title", "image"], *lines])
    read = rows(table, text)
    assert read[7] == "holds a quote that encloses nothing"
    assert read[8] == {"item_id": "i8", "title": "lamp", "image": "8.jpg"}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_backslashes_are_text_or_escape_quotes(seed, quoting, table):
    """A text that ended with a backslash made each backslash the escape of a quote."""
    rng = np.random.default_rng(seed)
    texts = ["C:\\x,1\\", 'a "b"', "\\", "one, two", "two\nlines\\", '5", 6"\\', "a\\b"]
    lines = [[f"i{n}", "C:\\x,1\\" if n == 50 else str(rng.choice(texts)), f"{n}.jpg"] for n in range(100)]
    header = ["item_id", "title", "image"]
    assert fields(table, written([header, *lines], quoting=quoting)) == lines
    spark = written([header, *lines], quoting=csv.QUOTE_ALL, doublequote=False, escapechar="\\")
    single = [[text.replace("\\\\", "\\") for text in line] for line in fields(table, spark)]
    assert single == lines  # Two backslashes may stay two.


@pytest.mark.parametrize("end", ["\r\r\n", "\n\n", "\r\n\r\n", "\r\r", "\n\n\n"])
def test_empty_lines_between_rows_are_no_rows(end, table):
    """Python's csv writes \\r\\r\\n to a text file on Windows, and half of the rows were rejects."""
    lines = [[f"i{n}", "a\n\nb, c\r\r\nd" if n % 7 == 3 else "a", f"{n}.jpg"] for n in range(100)]
    text = written([["item_id", "title", "image"], *lines], lineterminator=end)
    assert (
        fields(table, text) == lines == pd.read_csv(table, lineterminator=None if "\n" in end else "\r").values.tolist()
    )
    read = list(rows_of(test_formats.file_of(table)))
    step = len(io.StringIO(end, newline="").readlines())
    assert [row.row for row in read[:4]] == [step, 2 * step, 3 * step, 4 * step]


def test_empty_lines_of_one_column_are_rows_without_a_value(table):
    assert rows(table, "user_id\nu1\n\nu2\n") == [{"user_id": "u1"}, {"user_id": ""}, {"user_id": "u2"}]
    assert rows(table, "user_id\r\r\nu1\r\r\n\r\r\nu2\r\r\n") == [{"user_id": "u1"}, {"user_id": ""}, {"user_id": "u2"}]
    assert rows(table, "user_id\ru1\r\ru2\r") == [{"user_id": "u1"}, {"user_id": ""}, {"user_id": "u2"}]


EVENTS = [
    ["user_id", "item_id", "timestamp"],
    *([f"u{n % 7}", str(n % 90), str(1_600_000_000 + n)] for n in range(200)),
]


def as_r_writes(table: list[list[str]], names: list[str], quoted: bool = True, delimiter: str = ",") -> str:
    """A table as write.table of R writes it: with the names of its rows, and none in the header."""

    def shown(texts: list[str]) -> list[str]:
        return [f'"{text}"' if quoted else text for text in texts]

    def line(texts: list[str]) -> str:
        return delimiter.join(texts) + "\n"

    named = [[name, *shown(row[:2]), row[2]] for name, row in zip(shown(names), table[1:], strict=True)]
    return line(shown(table[0])) + "".join(map(line, named))


@pytest.mark.parametrize("quoted", [True, False])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_row_names_of_r_are_left_out(quoted, delimiter, table):
    names = [str(number + 1) for number in range(200)]
    table.write_text(as_r_writes(EVENTS, names, quoted, delimiter))
    file = test_formats.file_of(table)
    assert [[row.fields[name] for name in EVENTS[0]] for row in rows_of(file)] == EVENTS[1:]
    oracle = pd.read_csv(table, sep=delimiter, dtype=str)
    assert oracle.values.tolist() == EVENTS[1:]  # pandas takes the first field of such rows for their index.
    assert "row names" in str(file.dialect)


def test_names_of_rows_are_row_names_only_where_they_differ_and_are_quoted(table):
    texts = [f"row{number}x" for number in range(200)]
    for names, quoted, are_names in ((texts, True, True), (texts, False, False), (["r"] * 200, True, False)):
        table.write_text(as_r_writes(EVENTS, names, quoted))
        assert test_formats.file_of(table).dialect.row_names == are_names
    assert "R: row.names = FALSE" in rows(table)[0]


@pytest.mark.parametrize("last", ["12,50", "Shoe, red", "a,"])
@pytest.mark.parametrize("quoted", [True, False])
def test_a_delimiter_that_should_be_quoted_makes_no_row_names(last, quoted, table):
    """The ids would be the names, and each field would be that before it."""
    lines = [f'"{n}","{n}.jpg",{last}\n' if quoted else f"{n},{n}.jpg,{last}\n" for n in range(1, 50)]
    table.write_text(('"item_id","image","price"\n' if quoted else "item_id,image,price\n") + "".join(lines))
    assert not test_formats.file_of(table).dialect.row_names


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_delimiter_at_the_end_of_some_rows_is_ignored(quoting, table):
    lines = [[f"i{n}", "two\nlines, and" if n % 5 == 3 else "one", f"{n}.jpg"] for n in range(200)]
    header, *records = [written([line], quoting=quoting) for line in [["item_id", "title", "image"], *lines]]
    text = header + "".join(row.rstrip("\n") + "," * (n % 3 == 2) + "\n" for n, row in enumerate(records))
    assert fields(table, text) == lines
    assert fields(table, header + "".join(row.rstrip("\n") + ",\n" for row in records)) == lines
    assert rows(table, text + "i,t,x.jpg,,\ni,t, red,\n")[-2:] == [
        f"has {n} fields, the header has 3{csv_rows._SURPLUS}" for n in (5, 4)
    ]


def test_a_delimiter_in_a_text_is_no_end_of_a_row(table):
    """The rows without a colour had the second half of their title for it."""
    lines = [f"i{n},Shoe,red,{'' if n % 2 else 'blue'}\n" for n in range(50)]
    assert {row[:12] for row in rows(table, "item_id,title,colour\n" + "".join(lines))} == {"has 4 fields"}


def test_texts_of_excel_are_read_with_and_without_quotes_around_them(table):
    lines = [[f"000{n}", "a", f'x="{n}"'] for n in range(50)]
    formulas = [[f'="{name}"', f'="{text}"', other] for name, text, other in lines]
    header = ["item_id", "title", "note"]
    assert fields(table, written([header, *formulas])) == lines
    assert fields(table, written([header, *formulas], quoting=csv.QUOTE_ALL, delimiter=";")) == lines
    bare = "".join(",".join([*line[:2], "n"]) + "\n" for line in [header, *formulas])
    assert fields(table, bare) == [[*line[:2], "n"] for line in lines]
    assert rows(table, 'item_id,b\n="1"2",b\n') == ["holds a quote that encloses nothing"]
