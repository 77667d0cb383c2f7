"""The report shows the figures of the files, says what is missing, and obeys no text of a shop."""

import json
import shutil

import pytest

from courier_tf.commands import program
from courier_tf.commands.report import report_at_the_end
from courier_tf.ranking.evaluation import MAIN_SLICES
from courier_tf.report import charts
from courier_tf.report import page as pages
from courier_tf.report.blocks import Paragraph, Photo, PhotoRow, Photos, Table
from courier_tf.report.page import PAGE_FILE, SECTIONS, write_page
from courier_tf.report.workdir import Missing
from courier_tf.workdir import artefacts
from courier_tf.workdir.costs import read_costs
from courier_tf.workdir.stages import IN_ORDER
from tests.report.conftest import Page

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[2J\u202e$x$"


def test_every_section_stands_there_and_is_linked(reported):
    _, page = reported
    assert list(page.texts) == list(SECTIONS)
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links[1:] == [f"#{name}" for name in SECTIONS]
    assert not [text for text in page.texts.values() if "not complete" in text or "has not run" in text]


def test_nothing_is_fetched_and_nothing_runs(reported):
    _, page = reported
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "object")]
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert value.startswith(("data:image/webp;base64,", "#")), (tag, name)


def test_what_a_screen_reader_needs(reported):
    _, page = reported
    tags = [tag for tag, _ in page.tags]
    assert tags.count("h1") == tags.count("main") == 1 and tags.count("caption") == tags.count("table")
    assert all("alt" in attributes for tag, attributes in page.tags if tag == "img")
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")
    assert all(
        attributes.get("aria-label") for _, attributes in page.tags if attributes.get("role") in ("img", "region")
    )
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert dict(page.tags[0][1])["lang"] == "en"


def test_the_verdict_and_the_gains_are_those_of_the_metrics(reported):
    workdir, page = reported
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["verdict"]["sentence"] in page.texts["verdict"]
    for mode, by_split in metrics["ranking"].items():
        rows = {row[0]: row for row in page.tables[f"Ranker {mode}, valid span"][1:]}
        assert set(rows) == {"all", *MAIN_SLICES}
        measured = by_split["valid"]
        for name, row in rows.items():
            part = measured if name == "all" else measured["slices"][name]
            assert row[1:3] == [f"{part['impressions']:,}", f"{part['positives']:,}"]
            assert row[3].split()[0] == ("-" if part["auc"] is None else f"{100 * part['auc']:.2f}")
            for place, gains in ((7, "gain_over_none"), (8, "gain_over_control")):
                gain = metrics[gains]["valid"].get(mode, {}).get(name)
                assert row[place].split()[:1] == ([f"{100 * gain['gain']:+.2f}"] if gain else [])
    drawn = page.tables["Figures: Gains over none, valid span"][1:]
    gain = metrics["gain_over_none"]["valid"]["cluster_id"]["new_to_user"]
    assert [row[1] for row in drawn if row[0] == "cluster_id, new to user"] == [f"{100 * gain['gain']:.2f}"]


def test_data_cost_and_provenance_are_those_of_the_stages(reported):
    workdir, page = reported
    ingested = artefacts.read(workdir / "ingest", IN_ORDER[0])
    events = {row[0]: row[1:] for row in page.tables["Events of each span"]}
    assert events["events"] == [f"{ingested.facts.counts[f'events_{span}']:,}" for span in ("train", "valid", "test")]
    costs = {cost.name: cost for cost in read_costs(workdir)}
    assert {"ingest", "supervised", "pretrain", "embed", "cluster", "rank", "export"} <= set(costs)
    rows = {row[0]: row[1:] for row in page.tables["Stages as they were made last"][1:]}
    assert all(rows[name][0] == f"{cost.seconds:,.1f}" for name, cost in costs.items())
    assert all(cost.seconds > 0 and 2**25 < cost.peak_bytes < 2**36 for cost in costs.values())
    made = {row[0]: row[1:] for row in page.tables["Stages: equal fingerprints, equal content"][1:]}
    assert made["ingest"][0] == ingested.fingerprint
    settings = {row[0]: row[1] for row in page.tables["Settings of ingest"][1:]}
    assert settings["repeat_columns"] == '["brand"]'


def test_an_empty_folder_has_a_report_of_what_is_missing(tmp_path, capsys):
    program.main(["report", "--workdir", str(tmp_path)])
    assert str(tmp_path / PAGE_FILE) in capsys.readouterr().out
    page = Page((tmp_path / PAGE_FILE).read_text())
    assert list(page.texts) == list(SECTIONS) and not page.tables
    assert "The stage ingest has not run yet: courier ingest." in page.texts["data"]
    assert "metrics.json" in page.texts["verdict"]
    assert all(len(text.split()) < 40 and "not complete" not in text for text in page.texts.values())


def test_without_a_folder_there_is_a_line(tmp_path, caplog):
    with pytest.raises(program.ProgramExit, match="nowhere is no folder"):
        program.main(["report", "--workdir", str(tmp_path / "nowhere")])


def test_at_the_end_of_a_run_nothing_of_the_report_is_an_error(tmp_path, monkeypatch, caplog):
    def broken(work):
        yield object()  # No block: the template cannot show it.

    monkeypatch.setattr(pages, "SECTIONS", {"one": ("First", broken)})
    report_at_the_end(tmp_path)
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert line.startswith("the report was not written: AttributeError: ")


def test_a_section_that_fails_is_a_line_of_the_log_and_of_the_page(tmp_path, monkeypatch, caplog):
    def broken(work):
        yield Paragraph("so far")
        raise KeyError("what <b>it</b> is")

    def lacking(work):
        yield Paragraph("so good")
        raise Missing("There is nothing more.")

    monkeypatch.setattr(pages, "SECTIONS", {"one": ("First", broken), "two": ("Second", lacking)})
    page = Page(write_page(tmp_path).read_text())
    assert "so far" in page.texts["one"] and "KeyError: 'what <b>it</b> is'" in page.texts["one"]
    assert "so good" in page.texts["two"] and "There is nothing more." in page.texts["two"]
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "the section 'First' of the report is not complete: KeyError: 'what <b>it</b> is'"
    ]


def test_texts_of_a_shop_are_shown_and_not_obeyed(tmp_path, monkeypatch):
    def hostile(work):
        yield Paragraph(HOSTILE)
        yield Table(HOSTILE, (HOSTILE, HOSTILE), [(HOSTILE, HOSTILE)])
        row = PhotoRow(HOSTILE, {HOSTILE: HOSTILE}, [], {HOSTILE: []})
        yield Photos([row])
        yield charts.lines(HOSTILE[:60], HOSTILE, {HOSTILE: [(0, 1), (1, 2)], "b": [(0, 1)]}, "x", "y")
        yield charts.intervals("gains", "", [(HOSTILE, 0.1, 0.0, 0.2)], "points")

    monkeypatch.setattr(pages, "SECTIONS", {"one": (HOSTILE, hostile)})
    html = write_page(tmp_path).read_text()
    page = Page(html)
    assert "<script" not in html and not [tag for tag, _ in page.tags if tag in ("script", "img")]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert page.texts["one"].count("<script>alert(1)</script>") >= 8
    assert "\x1b" not in html and "\u202e" not in html


def test_photos_that_are_not_there_leave_a_mark(reported, tmp_path, monkeypatch):
    workdir, _ = reported
    shutil.copytree(workdir / "ingest", tmp_path / "ingest")
    shown = lambda work: iter([Photos([PhotoRow("row", {}, [Photo("no such item")])])])  # noqa: E731
    monkeypatch.setattr(pages, "SECTIONS", {"one": ("First", shown)})
    page = Page(write_page(tmp_path).read_text())
    assert "no photo" in page.texts["one"] and page.images["one"] == []
