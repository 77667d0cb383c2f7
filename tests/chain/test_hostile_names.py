"""Names of a shop that a terminal, a table or a page would obey, taken through the whole chain."""

import csv
import dataclasses
import unicodedata

import pytest

from courier_tf.commands import program
from courier_tf.escaping import KEPT
from courier_tf.shop import make_shop
from tests.chain.conftest import SHOP, tiny

#: What an id may hold: ingest rejects ids with control characters.
HOSTILE_ID = "\u202e\u200b<script>alert(1)</script>|$x$\\n`*_&"
HOSTILE = f"\x1b[2J\x9b31m\u2028{HOSTILE_ID}"
#: Suffixes of files that people read; the others hold records, tensors or JSON.
SHOWN = (".md", ".html", ".txt", ".csv", ".config", ".yml", ".pbtxt")


def raw(text):
    """The characters of a text that have no shape of their own, line breaks apart."""
    return {
        letter
        for letter in text
        if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") and letter not in "\n" + KEPT
    }


@pytest.fixture(scope="module")
def made(made_once):
    """(workdir, an item with a hostile id) of a run on a shop whose every name is hostile."""

    def make(folder):
        make_shop(folder / "shop", SHOP)
        added = dict.fromkeys(("item_id", "user_id"), HOSTILE_ID)
        added |= dict.fromkeys(("category", "title", "brand", "colour"), HOSTILE)
        for file in ("items.csv", "events.csv"):
            with (folder / "shop" / file).open(newline="") as stream:
                rows = list(csv.DictReader(stream))
            with (folder / "shop" / file).open("w", newline="") as stream:
                writer = csv.DictWriter(stream, rows[0])
                writer.writeheader()
                for row in rows:
                    writer.writerow({name: value + added.get(name, "") for name, value in row.items()})
        (folder / "work").mkdir()
        settings = tiny()
        settings = dataclasses.replace(settings, rank=dataclasses.replace(settings.rank, rank_starts=1))
        (folder / "work" / "settings.json").write_text(settings.to_json())
        with (folder / "printed.txt").open("w") as stream, pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdout", stream)
            patch.setattr("sys.stderr", stream)
            program.main(["run", "--raw", str(folder / "shop"), "--workdir", str(folder / "work")])

    folder = made_once("hostile_names", make)
    with (folder / "shop" / "items.csv").open(newline="") as stream:
        item = next(csv.DictReader(stream))["item_id"]
    return folder, item


@pytest.mark.slow
def test_no_name_is_obeyed_on_the_console_or_in_a_file(made, capsys):
    folder, item = made
    printed = (folder / "printed.txt").read_text()
    assert not raw(printed) and "script" in (folder / "work" / "metrics.json").read_text()
    for file in (folder / "work").rglob("*"):
        if file.suffix in SHOWN:
            assert not raw(file.read_text()), file
            assert file.suffix not in (".md", ".html") or "<script" not in file.read_text(), file
        if file.suffix in (".json", ".jsonl"):  # JSON escapes what it must; the other characters are ours to escape.
            assert not raw(file.read_text()) & set("\x1b\x9b"), file


@pytest.mark.slow
def test_no_name_is_obeyed_where_items_are_shown(made, capsys):
    folder, item = made
    words = ["--workdir", str(folder / "work")]
    program.main(["similar", *words, "--items", item, "--number", "3"])
    program.main(["predict", *words, "--user", HOSTILE, "--candidates", item, HOSTILE, "--history", item])
    printed = capsys.readouterr()
    assert "script" in printed.out and not raw(printed.out) and not raw(printed.err)
    with pytest.raises(program.ProgramExit):
        program.main(["similar", *words, "--items", HOSTILE])
    printed = capsys.readouterr()
    assert "no embedding of" in printed.err and not raw(printed.err) and printed.err.count("\n") == 1
