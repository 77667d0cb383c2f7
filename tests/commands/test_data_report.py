"""`courier data-report` over real ingests: exit codes, files, and one line in place of a traceback."""

import json

import pytest

from beam_jobs.ingest import ingest
from courier_tf.commands import program
from courier_tf.settings import IngestSettings
from courier_tf.workdir import snapshot
from courier_tf.workdir.provenance import MadeBy

from ..beam_jobs.conftest import Raw, impression_log


def workdir(folder, rows, items):
    raw = Raw(folder / "raw")
    raw.write("items", items(raw))
    raw.write("events", rows)
    ingest(str(raw.folder), folder / "w" / "ingest", IngestSettings(image_size=16, shards=1), MadeBy("ingest", {}, {}))
    return folder / "w"


@pytest.fixture(scope="module")
def previous(tmp_path_factory):
    folder = tmp_path_factory.mktemp("previous")
    return workdir(folder, impression_log(users=20), lambda raw: raw.items(8, colour=list("rgbrgbrg")))


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A shop without its colours, and in which nearly all is clicked."""
    log = [{**row, "clicked": int(number % 9 > 0)} for number, row in enumerate(impression_log(users=20, seed=1))]
    return workdir(tmp_path_factory.mktemp("broken"), log, lambda raw: raw.items(8))


@pytest.fixture
def report(capsys):
    """Runs the command, and returns (exit code, what it prints, what it says to stderr)."""

    def run(*arguments):
        code = 0
        try:
            program.main(["data-report", *map(str, arguments)])
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return run


def test_exit_codes(previous, broken, tmp_path, report):
    code, told, _ = report("--workdir", previous, "--previous", previous, "--out", tmp_path / "out")
    assert code == 0 and "no drift" in told
    written = json.loads((tmp_path / "out" / "data_report.json").read_text())
    assert written["judged"] and written["figures"]["events"] == 20 * 10 * 6 and not written["drifted"]
    assert (tmp_path / "out" / "data_report.md").read_text().startswith("**no drift**")
    assert report("--workdir", previous)[:1] == (0,)
    code, _, error = report("--workdir", broken, "--previous", previous)
    assert code == 1 and "Traceback" not in error
    assert error.strip().endswith("the item column 'colour' is gone: name it by --columns, or begin a chain without it")
    code, told, _ = report("--workdir", previous, "--previous", broken)  # A further column, and fewer clicks.
    assert code == 3 and "drift: share of clicks" in told
    assert report("--workdir", previous, "--previous", broken, "--max-click-rate-factor", "10")[0] == 0


def test_a_snapshot_is_enough(previous, broken, tmp_path, report, monkeypatch):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "ingest").symlink_to(previous / "ingest")
    monkeypatch.setattr(snapshot, "SNAPSHOT_STAGES", ())
    promoted = snapshot.write_snapshot(tmp_path / "w")
    for workdir in (previous, broken):
        assert report("--workdir", workdir, "--previous", promoted) == report(
            "--workdir", workdir, "--previous", previous
        )


def test_what_cannot_be_compared_is_one_line(previous, tmp_path, report):
    for arguments in (("--workdir", tmp_path), ("--workdir", previous, "--previous", tmp_path)):
        code, _, error = report(*arguments)
        assert code == 1 and len(error.strip().splitlines()) == 1 and str(tmp_path) in error
