"""Skew between a log of requests and training: none where nothing was changed, and skew that was put in."""

import dataclasses
import json

import numpy as np
import pytest

from courier_tf.commands.skew import skew as show_skew
from courier_tf.monitoring import skew
from courier_tf.monitoring.skew import Scores, SkewError, compare_log
from courier_tf.workdir.artefacts import ArtefactError
from serving.client.request_log import RequestLog, read_log
from serving.local.local_server import LocalServer
from tests.servers import write_log


@pytest.fixture(scope="module")
def server(shop):
    with LocalServer(shop.workdir / "serving", shop.workdir / "models", warm_up=False) as running:
        yield running


@pytest.fixture
def train_like_valid(monkeypatch):
    """The small shop has valid impressions alone."""
    batches = skew.impression_batches
    monkeypatch.setattr(skew, "impression_batches", lambda ingest, _, **words: batches(ingest, "valid", **words))


def test_no_skew_where_nothing_was_changed(shop, server, tmp_path, train_like_valid, capsys):
    report = show_skew(shop.workdir, write_log(server.port, tmp_path / "log"))
    assert report.scores == Scores((1,), 32, 0, pytest.approx(0, abs=1e-5), 0.0)
    log = report.log_features
    assert log["pairs"] == 32 and log["users_that_the_ranker_does_not_know"] == pytest.approx(1 / 32)
    assert log["items_not_in_the_catalogue"] == pytest.approx(1 / 32)
    assert log["without_history"] == pytest.approx(6 / 32)
    assert log["mean_history_length"] == pytest.approx((5 * (1 + 2 + 3 + 4 + 4) + 4) / 32)
    shown = " ".join(capsys.readouterr().out.split())
    assert "scores compared" in shown and "items that stay in a cluster which is not the nearest: 1. " in shown


def test_skew_of_parts_that_do_not_belong_together(workdir):
    file = workdir / "cluster" / "artefact.json"
    content = json.loads(file.read_text())
    encoder, content["facts"]["encoder"] = content["facts"]["encoder"], "another"
    file.write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match=f"cluster belongs to the encoder another, but .*pretrain holds {encoder}"):
        compare_log(workdir, workdir / "log")


def test_a_ranker_with_hashed_users_knows_no_unknown_ones(shop, server, tmp_path, train_like_valid, monkeypatch):
    plan = skew.load_plan(shop.stages.ranker)
    hashed = plan._replace(architecture=dataclasses.replace(plan.architecture, user_buckets=7))
    monkeypatch.setattr(skew, "load_plan", lambda _: hashed)
    report = compare_log(shop.workdir, write_log(server.port, tmp_path / "log"))
    for features in (report.log_features, report.train_features):
        assert "users_that_the_ranker_does_not_know" not in features
        assert features["items_not_in_the_catalogue"] <= 1 / 32


def test_skew_of_scores_is_told(shop, server, tmp_path, train_like_valid):
    """One logged history lacks what the server was asked with: as if features were built otherwise there."""
    log = RequestLog(tmp_path / "log", 1.0)
    for number, record in enumerate(read_log(write_log(server.port, tmp_path / "true"))):
        inputs = dict(record.request.inputs)
        if number == 5:
            inputs["history_item_ids"] = np.full_like(inputs["history_item_ids"], b"")
        log.add(record.model, record.request.signature, inputs, record.outputs)
    log.close()
    with pytest.raises(SkewError, match=r"15\.6 % of the 32 scores of version \[1\] differ"):
        show_skew(shop.workdir, tmp_path / "log")
    empty = RequestLog(tmp_path / "empty", 0.0)
    empty.close()
    with pytest.raises(SkewError, match="holds no request to ctr_ranker"):
        compare_log(shop.workdir, tmp_path / "empty")
