"""Promotion, roll back and withdrawal, and what they leave alone."""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from courier_tf import schema
from courier_tf.exporting import promotion
from courier_tf.exporting.promotion import PREVIOUS_SNAPSHOT, roll_back, withdraw
from courier_tf.exporting.promotion_checks import PromotionError
from courier_tf.exporting.versions import newest_versions
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.snapshot import SNAPSHOT_STAGES
from courier_tf.workdir.stages import RANK
from serving.bundle.graph_model import GraphModel
from serving.bundle.releases import ReleaseError, Releases
from tests.exporting.promotions import impressions, labels, promoted
from tests.served_shop import export_again, write_rank


def test_promote_a_second_version_and_roll_back(workdir, caplog):
    caplog.set_level("INFO")
    first = promoted(workdir)
    assert labels(workdir)["ctr_ranker"] == {"stable": 1, "canary": 1}
    batch = [records.parse(tf.constant([record]), schema.IMPRESSION_FEATURES) for record in impressions(workdir)]
    clicked = np.array([int(row["clicked"][0]) for row in batch])
    served = GraphModel(workdir / "models" / "ctr_ranker" / "1")
    score = [
        served(
            user_id=row["user_id"].numpy(),
            history_item_ids=row["history_item_ids"].to_tensor(shape=[1, None]).numpy(),
            item_id=row["item_id"].numpy(),
        )["probability"][0]
        for row in batch
    ]
    assert first.measured["ctr_ranker"]["auc"] == pytest.approx(roc_auc_score(clicked, score), abs=1e-4)
    assert first.measured["ctr_ranker"]["calibration"] == pytest.approx(np.mean(score) / clicked.mean(), rel=1e-4)
    write_rank(workdir, seed=2)
    assert [path.name for path in export_again(workdir)] == ["2"]  # Of the ranker alone.
    assert labels(workdir)["ctr_ranker"] == {"stable": 1, "canary": 2}
    second = promoted(workdir)
    assert (
        second.measured["ctr_ranker"]["stable_auc"] == first.measured["ctr_ranker"]["auc"]
        and second.versions["ctr_ranker"] == 2
    )
    assert labels(workdir) == {
        model: dict.fromkeys(("stable", "canary"), second.versions[model]) for model in labels(workdir)
    }
    assert roll_back(workdir) == first and labels(workdir)["ctr_ranker"] == {"stable": 1, "canary": 1}
    assert newest_versions(workdir / "models", ["ctr_ranker"])["ctr_ranker"] == 2  # Its files stay.
    with pytest.raises(ReleaseError, match="no release before"):
        roll_back(workdir)
    assert "version 1 is stable (labels: stable 1, canary 1)" in caplog.text


@pytest.mark.slow
def test_a_canary_is_withdrawn(workdir):
    """One that keeps a server from coming up, say: what is stable stands in for it."""
    with pytest.raises(ReleaseError, match="no canary beside"):
        withdraw(workdir)
    promoted(workdir)
    with pytest.raises(ReleaseError, match="no canary beside"):
        withdraw(workdir)
    write_rank(workdir, seed=2)
    export_again(workdir)
    assert labels(workdir)["ctr_ranker"] == {"stable": 1, "canary": 2}
    assert withdraw(workdir).versions["ctr_ranker"] == 1
    assert labels(workdir)["ctr_ranker"] == {"stable": 1, "canary": 1}
    with pytest.raises(ReleaseError, match=r"{'ctr_ranker': 2} were rolled back or withdrawn"):
        promoted(workdir)
    write_rank(workdir, seed=3)
    export_again(workdir)
    assert labels(workdir)["ctr_ranker"] == {"stable": 1, "canary": 3}
    promoted(workdir)
    assert labels(workdir)["ctr_ranker"] == {"stable": 3, "canary": 3}


@pytest.mark.slow
def test_no_roll_back_to_versions_that_are_gone(workdir):
    releases = Releases.read(workdir / "serving")
    promoted(workdir)
    write_rank(workdir, seed=2)
    export_again(workdir)
    promoted(workdir)
    shutil.rmtree(workdir / "models" / "ctr_ranker" / "1")
    with pytest.raises(ReleaseError, match="ctr_ranker/1 is gone"):
        roll_back(workdir)
    assert releases.promoted == () and len(Releases.read(workdir / "serving").promoted) == 2


def snapshot_of(workdir):
    """Stage -> fingerprint in the snapshot; its files are what was written."""
    kept = [artefacts.read(workdir / schema.PROMOTED_FOLDER / stage, stage) for stage in SNAPSHOT_STAGES]
    return {artefact.made_by.stage: artefacts.verify(artefact, full=True).fingerprint for artefact in kept}


@pytest.mark.slow
def test_a_promotion_leaves_a_snapshot_and_a_roll_back_restores_it(workdir, caplog):
    write_rank(workdir, seed=2)
    with pytest.raises(PromotionError):
        promoted(workdir)
    assert not (workdir / schema.PROMOTED_FOLDER).exists(), "nothing was promoted"
    export_again(workdir)
    promoted(workdir)
    first = snapshot_of(workdir)
    assert first == {stage: artefacts.read(workdir / stage, stage).fingerprint for stage in SNAPSHOT_STAGES}
    promoted(workdir)  # Once more: the release is the same, and so is the snapshot.
    assert snapshot_of(workdir) == first and not (workdir / PREVIOUS_SNAPSHOT).exists()
    write_rank(workdir, seed=3)
    with pytest.raises(PromotionError):
        promoted(workdir)
    assert snapshot_of(workdir) == first, "the promotion was refused"
    export_again(workdir)
    promoted(workdir)
    second = snapshot_of(workdir)
    assert second != first and second[RANK] == artefacts.read(workdir / RANK, RANK).fingerprint
    roll_back(workdir)
    assert snapshot_of(workdir) == first and "still belongs" not in caplog.text


def test_a_second_roll_back_warns_of_the_snapshot(workdir, caplog):
    for folder in (schema.PROMOTED_FOLDER, PREVIOUS_SNAPSHOT):
        (workdir / folder).mkdir()
        (workdir / folder / folder).touch()
    promotion._restore_snapshot(workdir)
    assert [path.name for path in (workdir / schema.PROMOTED_FOLDER).iterdir()] == [PREVIOUS_SNAPSHOT]
    assert not caplog.text
    promotion._restore_snapshot(workdir)
    assert [path.name for path in (workdir / schema.PROMOTED_FOLDER).iterdir()] == [PREVIOUS_SNAPSHOT]
    assert "promoted still belongs to the release that was rolled back" in caplog.text


def test_a_snapshot_that_cannot_be_written_leaves_the_one_before(workdir, monkeypatch):
    (workdir / schema.PROMOTED_FOLDER / "rank").mkdir(parents=True)

    def full(_):
        raise OSError("No space left on device")

    monkeypatch.setattr(promotion, "write_snapshot", full)
    with pytest.raises(OSError, match="No space left"):
        promotion._take_snapshot(workdir, keep=True)
    assert (workdir / schema.PROMOTED_FOLDER / "rank").is_dir() and not (workdir / PREVIOUS_SNAPSHOT).exists()
