"""The descriptor of the served ranker: how its quality is measured."""

import dataclasses

import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from courier_tf import schema
from courier_tf.exporting.ctr_ranker import CtrRanker
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.versions import newest_version
from courier_tf.workdir import records
from serving.bundle.graph_model import GraphModel
from serving.client import contract
from tests.exporting.promotions import impressions


def test_every_version_is_measured_on_whole_histories(workdir):
    """As clients send them: each cuts them by itself, however long those of the newest are."""
    stages = FinishedStages.read(workdir)
    served = GraphModel(newest_version(workdir / "models" / contract.CTR_RANKER))
    rows = [records.parse(tf.constant([record]), schema.IMPRESSION_FEATURES) for record in impressions(workdir)]
    scores = [
        served(
            user_id=row["user_id"].numpy(),
            history_item_ids=row["history_item_ids"].to_tensor("").numpy(),
            item_id=row["item_id"].numpy(),
        )["probability"][0]
        for row in rows
    ]
    expected = roc_auc_score([int(row["clicked"][0]) for row in rows], scores)
    assert CtrRanker().quality(served, stages)["auc"] == pytest.approx(expected, abs=1e-6)
    shorter = dataclasses.replace(stages.rank, facts=dataclasses.replace(stages.rank.facts, history_length=1))
    assert stages._replace(rank=shorter).history_length == 1
    assert CtrRanker().quality(served, stages._replace(rank=shorter))["auc"] == pytest.approx(expected, abs=1e-6)
