"""Lines that say how far a piece of work is, and the log file of a workdir."""

import logging
import re
import threading

import numpy as np
import pytest
from tensorflow import keras

from courier_tf import process, progress
from courier_tf.commands.logs import LogOptions
from courier_tf.process import also_log_to, shown_logs
from courier_tf.progress import Progress
from courier_tf.training import ProgressLines


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [record.message for record in caplog.records if record.name == progress.__name__]


def test_a_line_every_thirty_seconds(lines):
    """2 pieces a second for a minute, then 4 a second."""
    now = 1000.0
    work = Progress("embed", 1000, "photos", done=100, clock=lambda: now)
    for second in range(1, 101):
        now = 1000.0 + second
        work.reached(100 + 2 * min(second, 60) + 4 * max(second - 60, 0))
    assert lines() == [
        "[embed] 160 of 1,000 photos, 2 a second, 7 min left",
        "[embed] 220 of 1,000 photos, 2 a second, 6 min left",
        "[embed] 340 of 1,000 photos, 4 a second, 2 min left",
    ]


def test_work_that_stands_still_has_no_time_left(lines):
    times = iter([0.0, 31.0])
    Progress("rank", 10, "steps", clock=lambda: next(times)).reached(0)
    assert lines() == ["[rank] 0 of 10 steps, 0 a second"]


def test_work_of_unknown_length_has_no_time_left(lines):
    times = iter([0.0, 40.0])
    Progress("import", None, "events", clock=lambda: next(times)).reached(4_000_000)
    assert lines() == ["[import] 4,000,000 events, 100,000 a second"]


def test_threads_share_it(lines, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    work = Progress("download", 4000, "photos")
    threads = [threading.Thread(target=lambda: [work.advance() for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [int(line.split()[1].replace(",", "")) for line in lines()]
    assert numbers == list(range(1, 4001))


@pytest.mark.slow
def test_training_says_its_steps(lines, caplog, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    callback = ProgressLines("pretrain", 20, done=10)
    history = model.fit(np.ones([10, 3]), np.ones([10, 1]), batch_size=2, epochs=2, verbose=0, callbacks=[callback])
    numbers = [int(re.match(r"\[pretrain\] (\d+) of 20 steps, ", line).group(1)) for line in lines()]
    assert numbers == list(range(11, 21))
    assert lines()[-1].endswith(" 0 s left")
    told = [record.getMessage() for record in caplog.records if record.name == "courier_tf.training"]
    losses = [f"{loss:.4g}" for loss in history.history["loss"]]
    assert told == [f"[pretrain] {done} of 20 steps: loss {loss}" for done, loss in zip((15, 20), losses, strict=True)]


def test_gauges_are_details(caplog, capsys):
    """An epoch says its loss; what else is measured is shown by -v."""
    callback = ProgressLines("pretrain", 20, done=10)
    gauges = {"loss": 2.0, "uniformity": -1.23456, "photos/s": 1234.5}
    for level, shown in (("info", []), ("debug", ["[pretrain] 10 of 20 steps: uniformity -1.235, photos/s 1234"])):
        with shown_logs(level):
            callback.on_epoch_end(0, gauges)
        printed = capsys.readouterr()
        assert printed.out.splitlines() == ["[pretrain] 10 of 20 steps: loss 2"]
        assert [line.partition(": ")[2] for line in printed.err.splitlines()] == shown


@pytest.mark.parametrize(
    "words", [["-v"], ["--verbose"], ["--log-level", "debug"], ["--verbose", "--log-level", "error"]]
)
def test_details_are_asked_for_by_a_short_word(words):
    logs, rest = LogOptions.taken_from(["run", *words, "--raw", "x"])
    assert logs.level == "debug" and rest == ["run", "--raw", "x"]
    assert LogOptions.taken_from(["run"])[0].level == "info"


def test_the_log_file_has_what_is_shown(tmp_path, capsys):
    file, log = tmp_path / "log.txt", logging.getLogger("courier_tf.some_stage")
    for run in range(2):
        with shown_logs():
            log.info("before, %d", run)
            also_log_to(file)
            also_log_to(file)
            log.info("stage %d", run)
            log.debug("unseen")
            logging.getLogger("another.library").info("unseen")
            logging.getLogger("another.library").warning("broken\x1b[2J")
        log.info("after")
    shown = capsys.readouterr()
    assert "stage 1" in shown.out and "before, 1" in shown.out
    rows = file.read_text().splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ", "", row) for row in rows] == [
        "stage 0",
        "warning: broken\\x1b[2J",
        "stage 1",
        "warning: broken\\x1b[2J",
    ]


def test_a_log_file_that_cannot_be_written_ends_nothing(tmp_path, capsys):
    log = logging.getLogger("courier_tf.some_stage")
    with shown_logs():
        also_log_to(tmp_path / "missing" / "log.txt")
        log.info("one")
        log.info("two")
    shown = capsys.readouterr()
    assert shown.out == "one\ntwo\n"
    assert shown.err.count("the log is not kept") == 1 and "missing/log.txt" in shown.err
    assert not any(isinstance(handler, process._LogFile) for handler in logging.getLogger().handlers)
