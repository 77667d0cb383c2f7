"""Runs that start from an earlier one."""

import dataclasses
import datetime
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from courier_tf.chain.chain import Chain
from courier_tf.ranking.ranker_files import load_ranker
from courier_tf.settings import SettingsError
from courier_tf.workdir import artefacts
from courier_tf.workdir.snapshot import SNAPSHOT_STAGES, write_snapshot
from courier_tf.workdir.stages import CLUSTER, INGEST, PRETRAIN
from tests.chain.encoder_files import weights
from tests.sealing import seal_description


def test_base_leaves_the_encoder_as_supervised_pre_training_made_it(finished, tmp_path):
    _, chain = finished
    other = with_settings(chain, tmp_path, pretrain={"objective": "base"})
    for stage in ("ingest", "supervised"):
        (tmp_path / stage).symlink_to(chain.directory(stage))
    other.pretrain()
    warmed = weights(chain.workdir / "supervised/encoder/encoder.weights.h5")
    assert weights(other.workdir / "pretrain/encoder/encoder.weights.h5") == warmed
    assert weights(chain.workdir / "pretrain/encoder/encoder.weights.h5") != warmed


@pytest.mark.slow
def test_without_training_the_encoder_fits_the_previous_codebook(finished, tmp_path):
    """A day on which nothing is learned: the previous encoder, its codebook, the items there are by now."""
    _, chain = finished
    other = with_settings(
        chain,
        tmp_path,
        previous={"previous": str(chain.workdir)},
        pretrain={"objective": "base"},
        cluster={"algorithm": "incremental"},
    )
    (tmp_path / "ingest").symlink_to(chain.directory("ingest"))
    for stage in ("pretrain", "embed", "cluster"):
        getattr(other, stage)()
    first, second = (artefacts.read(c.directory(PRETRAIN), PRETRAIN).facts.encoder for c in (chain, other))
    assert first == second
    first, second = (pd.read_parquet(c.directory("cluster") / "item_clusters.parquet") for c in (chain, other))
    assert first["item_id"].tolist() == second["item_id"].tolist()
    assert first["cluster_id"].tolist() == second["cluster_id"].tolist()


@pytest.mark.slow
def test_rankers_begin_as_the_previous_ones_did(finished, tmp_path):
    """With a learning rate at which every pass does harm, each is kept as it began."""
    _, chain = finished
    modes = ("none", "cluster_id", "cluster_id_permuted", "vector")
    rank = {"rank_learning_rates": (300.0,), "rank_modes": modes}
    other = with_settings(chain, tmp_path, previous={"previous_rankers": str(chain.directory("rank"))}, rank=rank)
    for stage in ("ingest", "embed", "cluster"):
        (tmp_path / stage).symlink_to(chain.directory(stage))
    other.rank()
    found, earlier = (
        {mode: np.load(c.directory("rank") / mode / "valid.npy") for mode in own}
        for c, own in ((other, modes), (chain, modes[:3]))
    )
    for mode in ("none", "cluster_id"):
        np.testing.assert_allclose(found[mode], earlier[mode], atol=1e-5)
    np.testing.assert_allclose(found["vector"], earlier["none"], atol=1e-5)
    # What a control has learned of an item's visual features belongs to no item of the next day.
    rankers = (load_ranker(run.directory("rank") / "cluster_id_permuted" / "start_0") for run in (other, chain))
    anew, before = (ranker.mlp.layers[0].kernel.numpy() for ranker in rankers)
    assert (anew != before).any(), "whether or not its gates are open"


@pytest.mark.slow
def test_embeddings_of_another_encoder_are_not_taken_for_the_previous_ones(finished, tmp_path):
    """The previous ranker sees vectors. The encoder of this run gives other vectors than the previous one did."""
    _, chain = finished
    first = with_settings(chain, tmp_path / "first", rank={"rank_modes": ("vector",), "rank_starts": 1})
    other = with_settings(
        chain,
        tmp_path / "other",
        pretrain={"objective": "base"},
        rank={
            "rank_modes": ("vector",),
            "rank_starts": 1,
            "rank_learning_rates": (3.0,),
        },
        previous={"previous_rankers": str(first.directory("rank"))},
    )
    for run, stages in ((first, ("ingest", "embed", "cluster")), (other, ("ingest", "supervised"))):
        run.workdir.mkdir()
        for stage in stages:
            run.directory(stage).symlink_to(chain.directory(stage))
    first.rank()
    for stage in ("pretrain", "embed", "cluster", "rank"):
        getattr(other, stage)()
    taken = load_ranker(other.directory("rank") / "vector" / "start_0")
    known = taken.attention.of_item.kernel.shape[0] - taken.architecture.dim
    assert not taken.attention.of_item.kernel.numpy()[known:].any(), "the visual feature starts anew"
    np.testing.assert_array_equal(
        taken.attention.of_item.kernel[:known],
        load_ranker(first.directory("rank") / "vector" / "start_0").attention.of_item.kernel[:known],
    )


@pytest.mark.slow
def test_a_previous_run_that_knows_what_comes_later_is_refused(finished, tmp_path):
    """The train span of the previous run ended a day after that of this one."""
    shop, chain = finished
    ended = artefacts.read(chain.directory(INGEST), INGEST).facts.valid_from_seconds
    day_before = datetime.datetime.fromtimestamp(ended - 86_400, datetime.UTC).date().isoformat()
    day = datetime.datetime.fromtimestamp(ended, datetime.UTC).date().isoformat()
    first = with_settings(chain, tmp_path, ingest={"valid_from": day_before, "test_from": day})
    first.ingest(str(shop))
    for stage in ("pretrain", "embed", "cluster"):
        getattr(first, stage)()
    later = with_settings(first, tmp_path, previous={"previous": str(chain.workdir)})
    for stage in (later.pretrain, later.cluster, later.rank):
        with pytest.raises(artefacts.ArtefactError, match="what comes later must not be known"):
            stage()


def test_a_previous_ranker_that_was_chosen_on_what_is_the_test_span_now_is_refused(finished, tmp_path):
    _, chain = finished
    earlier = tmp_path / "earlier"
    shutil.copytree(chain.directory("rank"), earlier)
    content = json.loads((earlier / artefacts.ARTEFACT_FILE).read_text())
    content["facts"]["test_from_seconds"] += 86_400
    (earlier / artefacts.ARTEFACT_FILE).write_text(json.dumps(content))
    seal_description(earlier)
    for stage in ("ingest", "cluster"):
        (tmp_path / stage).symlink_to(chain.directory(stage))
    with pytest.raises(artefacts.ArtefactError, match=r"earlier cannot be started from: its valid span ends at"):
        with_settings(chain, tmp_path, previous={"previous_rankers": str(earlier)}).rank()


@pytest.mark.parametrize(
    "stage, option",
    [("pretrain", "previous_encoder"), ("cluster", "previous_clusters"), ("rank", "previous_rankers")],
)
def test_a_stage_does_not_start_from_what_it_replaces(finished, tmp_path, stage, option):
    _, chain = finished
    for directory in ("ingest", "embed", "pretrain", "cluster", "rank"):
        (tmp_path / directory).symlink_to(chain.directory(directory))
    before = (chain.directory(stage) / artefacts.ARTEFACT_FILE).read_text()
    for place in (tmp_path / stage, chain.directory(stage)):  # By any name.
        with pytest.raises(artefacts.ArtefactError, match=f"the stage '{stage}' of this run writes it.*promoted"):
            getattr(with_settings(chain, tmp_path, previous={option: str(place)}), stage)()
    with pytest.raises(SettingsError, match=r"is the workdir of this run.*promoted, which 'courier export --promote'"):
        getattr(with_settings(chain, tmp_path, previous={"previous": f"{tmp_path}/../{tmp_path.name}"}), stage)()
    assert (chain.directory(stage) / artefacts.ARTEFACT_FILE).read_text() == before


def test_a_run_from_its_own_snapshot_makes_nothing_again_until_something_is_new(finished, tmp_path):
    _, chain = finished
    workdir = tmp_path / "work"
    shutil.copytree(chain.workdir, workdir)
    snapshot = write_snapshot(workdir)
    other = with_settings(chain, workdir, previous={"previous": str(snapshot)})
    before = {stage: (workdir / stage / artefacts.ARTEFACT_FILE).stat().st_ino for stage in SNAPSHOT_STAGES}
    for stage in (other.pretrain, other.cluster, other.rank):
        stage()
    assert {stage: (workdir / stage / artefacts.ARTEFACT_FILE).stat().st_ino for stage in SNAPSHOT_STAGES} == before
    renewed = with_settings(other, workdir, cluster={"cluster_steps": 3})
    renewed.cluster()
    clustered = artefacts.read(workdir / CLUSTER, CLUSTER)
    assert clustered.made_by.inputs["previous"] == artefacts.read(snapshot / CLUSTER, CLUSTER).fingerprint
    assert clustered.facts.ids_kept is not None
    assert not any("/" in str(value) for value in clustered.made_by.settings.values()), "no path decides"


def with_settings(chain: Chain, workdir: Path, **stages: dict) -> Chain:
    changed = {name: dataclasses.replace(getattr(chain.settings, name), **values) for name, values in stages.items()}
    return Chain(workdir, dataclasses.replace(chain.settings, **changed))
