"""Locks: one process at a time, and the work is not done twice."""

import threading
import time

from courier_tf import artefacts
from courier_tf.artefacts import MadeBy
from courier_tf.chain import Chain
from courier_tf.presets import PRESETS


def test_of_two_commands_in_one_workdir_one_makes_the_stage_and_the_other_finds_it(tmp_path, capsys):
    made_by, made, begun = MadeBy("ingest", {}, {}), [], threading.Event()

    def make(target):
        with artefacts.write_aside(target, made_by) as (partial, _):
            (partial / "first").write_text("1")
            begun.set()
            time.sleep(0.3)  # The other one would begin anew here, and remove what is there.
            (partial / "second").write_text("2")
        made.append(target)

    def run():
        Chain(tmp_path, PRESETS["tiny"])._unless_current(tmp_path / "ingest", made_by, make)

    threads = [threading.Thread(target=run) for _ in range(2)]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert {path.name for path in (tmp_path / "ingest").iterdir()} == {"artefact.json", "first", "second"}
    out = capsys.readouterr().out
    assert "[ingest] another process is making" in out and "[ingest] unchanged, skipped" in out
