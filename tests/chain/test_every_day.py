"""What a day makes anew: ingest of the tables or photos that have changed, and nothing where none has."""

import os

import pytest

from courier_tf.chain.chain import Chain
from courier_tf.settings import Settings, with_values
from courier_tf.workdir import artefacts
from courier_tf.workdir.stages import INGEST
from tests.beam_jobs.conftest import Raw, impression_log, photo

SETTINGS = with_values(Settings(), {"image_size": 16, "shards": 1, "history_length": 5})


@pytest.fixture
def raw(tmp_path):
    folder = Raw(tmp_path / "raw")
    folder.write("items", folder.items(8))
    folder.write("events", impression_log(users=3, days=4))
    return folder.folder


@pytest.mark.slow
def test_ingest_notices_what_has_changed_and_nothing_else(raw, tmp_path, caplog):
    caplog.set_level("INFO")

    def told(force=(), workdir="w", settings=SETTINGS):
        caplog.clear()
        Chain(tmp_path / workdir, settings, force=frozenset(force)).ingest(str(raw))
        facts = artefacts.read(tmp_path / workdir / "ingest", INGEST).facts
        return caplog.text, (facts.photos_decoded, facts.photos_taken_over)

    text, numbers = told()
    assert numbers == (8, 0) and "8 stored: 8 decoded, 0 taken over" in text
    for file in ("items.csv", "events.csv", "images/item1.jpg"):
        os.utime(raw / file, (1, 1))
    (raw / "notes.txt").write_text("for humans")
    assert "[ingest] unchanged, skipped" in told()[0]
    (raw / "images/item1.jpg").write_bytes(photo(seed=77))
    text, numbers = told()
    assert "[ingest] is made again: photos have changed" in text and numbers == (1, 7)
    assert told(force=["ingest"])[1] == (8, 0)
    other = with_values(SETTINGS, {"previous": str(tmp_path / "w"), "page_view_size": 3})
    assert told(workdir="tomorrow", settings=other)[1] == (0, 8)
