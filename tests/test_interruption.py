"""kill -9 in the middle of every stage, then the same command again: it completes, and took up nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from courier_tf.shop import ShopSettings, make_shop
from courier_tf.workdir.artefacts import ARTEFACT_FILE
from serving.bundle.graph_model import GraphModel

#: What `courier run` says when a stage begins, and where that stage's result will lie.
STAGES = {
    "ingest": "ingest",
    "supervised": "supervised",
    "pretrain": "pretrain",
    "embed": "embed",
    "cluster": "cluster",
    "rank": "rank",
    "export ctr_ranker": "models/ctr_ranker/1",
    "export image_embedder": "models/image_embedder/1",
}
SECONDS = (0.0, 2.5)  # After the beginning of a stage: at once, and in the middle of most.
CHECKPOINTED = ("supervised", "pretrain")


def command(shop, work):
    run = [sys.executable, "-m", "courier_tf", "run", "--raw", str(shop), "--workdir", str(work)]
    return [*run, "--preset", "tiny", "--checkpoint-every", "2", "--rank-epochs", "1"]


def run_until_killed(shop, work, stage, seconds):
    """Runs the chain, and kills the whole process group so many seconds after `stage` began.

    Where a machine is fast the kill before came after this stage, too: then it is whole, and the run goes to its end.
    """
    running = subprocess.Popen(
        command(shop, work), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
    )
    for line in running.stdout:
        if line.startswith(f"[{stage}] ..."):
            time.sleep(seconds)
            break
    else:
        assert (work / STAGES[stage] / ARTEFACT_FILE).exists(), f"the run ended, and the stage '{stage}' never began"
        assert running.wait() == 0
        return
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()


def run_until_a_checkpoint(shop, work, stage):
    """Runs the chain, and kills it as soon as `stage` has written a checkpoint."""
    running = subprocess.Popen(
        command(shop, work), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not list((work / f".{stage}.partial").glob("checkpoints/*.index")):
        assert running.poll() is None, "the run ended before a checkpoint was seen"
        time.sleep(0.02)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()


@pytest.mark.slow
def test_training_goes_on_from_its_checkpoint_bit_for_bit(tmp_path):
    shop, work, calm = tmp_path / "shop", tmp_path / "work", tmp_path / "calm"
    make_shop(shop, ShopSettings(items=300, users=150, days=12, page_views=3000, photo_size=48))
    for stage in CHECKPOINTED:
        run_until_a_checkpoint(shop, work, stage)
    for folder in (work, calm):
        subprocess.run(command(shop, folder), check=True, capture_output=True)
    for stage in CHECKPOINTED:
        found, expected = (json.loads((w / stage / ARTEFACT_FILE).read_text()) for w in (work, calm))
        assert found["facts"] == expected["facts"]
        steps = [(w / stage / "logs" / "steps.csv").read_text().splitlines() for w in (work, calm)]
        losses = [[line.split(",")[rows[0].split(",").index("loss")] for line in rows] for rows in steps]
        assert losses[0] == losses[1]


@pytest.mark.slow
@pytest.mark.parametrize("seconds", SECONDS)
def test_killed_at_every_stage(tmp_path, seconds):
    shop, work, calm = tmp_path / "shop", tmp_path / "work", tmp_path / "calm"
    make_shop(shop, ShopSettings(items=300, users=150, days=12, page_views=3000, photo_size=48))
    for stage, result in STAGES.items():
        run_until_killed(shop, work, stage, seconds)
        artefact = work / result / ARTEFACT_FILE
        if (work / result).exists():  # The stage was quicker than the kill: then it is whole.
            assert json.loads(artefact.read_text())["fingerprint"]
    done = subprocess.run(command(shop, work), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not [path for path in work.rglob("*") if path.name.endswith((".partial", ".old"))]
    for model in ("ctr_ranker", "image_embedder"):
        assert GraphModel(work / "models" / model / "1").signatures["serving_default"].outputs
    # An undisturbed run of the same settings ends at the same figures.
    subprocess.run(command(shop, calm), check=True, capture_output=True)
    found, expected = (json.loads((w / "metrics.json").read_text()) for w in (work, calm))
    assert found["ranking"] == expected["ranking"] and found["data"] == expected["data"]
