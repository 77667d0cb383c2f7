"""The command `courier check`: its words, its width, its exit code."""

import pytest

from beam_jobs.inspection import Problem, Report
from courier_tf.commands.check import WIDTH, lines_of
from courier_tf.commands.program import main

from ..beam_jobs.conftest import Raw, impression_log


def test_lines_are_numbered_and_wrapped():
    report = Report(["items: " + "word " * 60], [Problem(True, "bad " * 60, ("file row 1",)), Problem(False, "odd")])
    assert max(map(len, lines_of(report, 60))) <= 60
    lines = lines_of(report)
    assert 60 < max(map(len, lines)) <= WIDTH
    assert sum(line.startswith("1. error: bad") for line in lines) == 1 and "    file row 1" in lines
    assert "2. warning: odd" in lines
    assert lines[-1] == "1 error, 1 warning: courier ingest would stop here."


def test_the_exit_code_says_whether_ingest_would_stop(tmp_path, capsys):
    raw = Raw(tmp_path / "raw")
    raw.write("items", raw.items())
    log = impression_log()
    raw.write("events", [{"is_click": row.pop("clicked"), **row} for row in log])
    with pytest.raises(SystemExit) as end:
        main(["check", str(raw.folder)])
    assert end.value.code == 1
    assert "--columns clicked=is_click" in " ".join(capsys.readouterr().out.split())
    main(["check", str(raw.folder), "--columns", "clicked=is_click", "--full"])
    out = " ".join(capsys.readouterr().out.split())
    assert "0 errors, 0 warnings: courier ingest can read this folder." in out and "all 360 rows read" in out
