"""What a run prints at its end, and the file with the rest."""

import re

import pytest

from courier_tf.commands.report_file import REPORT_FILE
from courier_tf.commands.summary import report
from courier_tf.files.places import place_of
from courier_tf.ranking.evaluation import MAIN_SLICES
from tests.ranking.run_metrics import gain_of, metrics_of

HELD_OUT = {
    f"{prefix}{kind}{where}": value
    for prefix, value in (("", 0.56), ("pixels_", 0.53), ("category_", 0.54))
    for kind in ("best", "mean")
    for where in ("", "_new_to_user")
}


def finished(workdir, **changes):
    """The metrics of a run with all that the report shows; its files lie in the workdir."""
    metrics = metrics_of(gain_of(0.08, 0.07, 0.09), gain_of(0.085, 0.06, 0.11), **changes)
    for by_split in metrics["ranking"].values():
        for part in by_split.values():
            part["slices"] |= {name: part["slices"]["new_to_user"] for name in MAIN_SLICES}
            part["slices"]["new_to_user"] |= {"auc_low": 0.6, "auc_high": 0.7, "gauc_low": None, "gauc_high": None}
    metrics["category_gates"] = {"cluster_id": {"[b]dress\x1b[2J": 0.9, "bag": 0.1}}
    metrics["held_out"] = {"pretrain": HELD_OUT, "supervised": HELD_OUT, "teacher models/\x1b[2J": HELD_OUT}
    (workdir / "metrics.json").touch()
    return metrics


def test_on_a_store_the_places_are_those_of_the_store(tmp_path, capsys, monkeypatch):
    uploaded = []
    monkeypatch.setattr(
        "courier_tf.commands.summary.transfer.upload", lambda file, to: uploaded.append((file.name, to))
    )
    place = place_of("s3://bucket/w")
    report(finished(tmp_path), tmp_path, place)
    out = capsys.readouterr().out
    assert "All slices: s3://bucket/w/report.txt\nAll figures: s3://bucket/w/metrics.json\n" in out
    assert str(tmp_path) not in out and uploaded == [("report.txt", place / "report.txt")]


def test_the_end_is_a_sentence_and_two_rows_of_80_columns(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    report(finished(tmp_path), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    paths = [line for line in lines if str(tmp_path) in line]
    assert [line.partition(":")[0] for line in paths] == ["All slices", "All figures"], "what is there"
    verdict = [line for line in lines if line not in paths]
    assert all(len(line) <= 80 for line in verdict)
    assert " ".join(verdict[:-2]) == (
        "Visual features help: +8.00 points of AUC (800 clicks on items new to the user, valid span), and the control "
        "confirms it."
    )
    assert [line.split()[:4] for line in verdict[-2:]] == [
        ["gain", "over", "none", "+8.00"],
        ["gain", "over", "the", "control"],
    ]
    assert (tmp_path / REPORT_FILE).read_text().splitlines()[: len(verdict)] == verdict, "the report begins with it"


@pytest.mark.parametrize("splits", [("valid",), ("valid", "test")])
def test_the_rest_stands_in_the_report(tmp_path, capsys, splits):
    report(finished(tmp_path, splits=splits), tmp_path)
    text = (tmp_path / REPORT_FILE).read_text()
    assert f"Figures of {splits[-1]}, " in text and f"Click prediction, {splits[-1]} span" in text
    assert "+8.00  (+7.00 to +9.00)" in text and "60.00 to 70.00" in text and "Visual features help" in text
    for words in (
        "embedding of pretrain: 56.00",
        "embedding of supervised: 56.00",
        r"embedding of teacher models/\x1b[2J: 56.00",
        "pixels: 53.00",
        "category alone: 54.00",
        "repeats are left out",
    ):
        assert words in text
    assert text.count("pixels:") == 1, "no encoder has a part in it"
    assert r"[b]dress\x1b[2J 0.90" in text, "a category means nothing but itself"
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)


def test_popularity_that_gives_sampled_negatives_away_is_warned_of(tmp_path, capsys):
    metrics = finished(tmp_path)
    metrics["popularity"]["valid"]["auc"] = 0.41
    report(metrics, tmp_path)
    assert "Warning" not in capsys.readouterr().out
    metrics["data"]["negatives"] = "4 per positive, popularity"
    report(metrics, tmp_path)
    printed = capsys.readouterr().out
    assert "Warning: popularity alone has AUC 41.00 on valid" in printed and "--negatives-pool-events" in printed
    assert all(len(line) <= 80 for line in printed.splitlines() if str(tmp_path) not in line)
