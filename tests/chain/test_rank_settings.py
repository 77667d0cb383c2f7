"""What the settings of the rank stage say reaches the rankers that it trains."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from courier_tf.chain.chain import Chain
from courier_tf.ranking.architecture import Architecture
from courier_tf.ranking.comparison import start_directory
from courier_tf.ranking.ranker_files import load_plan
from courier_tf.ranking.train import COPY_SUFFIX, rank, same_rankers
from courier_tf.settings import SettingsError
from courier_tf.workdir import artefacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import INGEST, RANK


def plans(chain, target, **values):
    """mode -> plan of the ranker that one short pass has made."""
    modes = ("none", "cluster_id")
    settings = dataclasses.replace(chain.settings.rank, rank_modes=modes, rank_starts=1, rank_epochs=1, **values)
    directories = chain.directory("ingest"), chain.directory("cluster")
    rank(*directories, None, target, settings, 0, MadeBy("rank", {}, {}))
    return {mode: load_plan(start_directory(target, mode, 0)) for mode in modes}


@pytest.mark.slow
def test_columns_widths_and_whom_the_ranker_knows(finished, tmp_path):
    shop, chain = finished
    found = plans(
        chain,
        tmp_path / "rank",
        rank_columns=("category",),
        rank_dim=5,
        rank_category_gate=False,
        rank_cross_layers=2,
        rank_min_item_impressions=20,
        rank_min_user_page_views=4,
    )
    assert found["none"].architecture == Architecture((), 5, False, 2, 0)
    assert found["cluster_id"].architecture == Architecture(("cluster_id",), 5, False, 2, 0)
    facts = artefacts.read(chain.directory(INGEST), INGEST).facts
    events = pd.read_csv(shop / "events.csv")
    train = events[events["timestamp"] < facts.valid_from_seconds]
    page_views = train.groupby("user_id")["request_id"].nunique()
    shown = train["item_id"].value_counts()
    for plan in found.values():
        assert set(plan.catalogue.names) == {"item", "column/category"}
        sizes = dict(zip(plan.catalogue.names, plan.catalogue.sizes, strict=True))
        assert sizes["item"] == 1 + (shown >= 20).sum()
        assert sorted(plan.users) == sorted(user.encode() for user in page_views[page_views >= 4].index)
    assert (page_views < 4).sum() > 0 and (shown < 20).sum() > 0, "there are some to leave out"


@pytest.mark.parametrize(
    "stage, name, value",
    [
        ("rank", "rank_columns", ("categroy",)),
        ("rank", "rank_slice_columns", ("category", "categroy")),
        ("pretrain", "pretrain_where", "categroy=c1"),
    ],
)
def test_a_column_that_does_not_exist_is_told_before_anything_is_trained(finished, tmp_path, stage, name, value):
    shop, chain = finished
    own = dataclasses.replace(getattr(chain.settings, stage), **{name: value})
    (tmp_path / "ingest").symlink_to(chain.directory("ingest"))
    with pytest.raises(SettingsError, match=rf"{name}: items have no columns \['categroy'\], but \['category'"):
        Chain(tmp_path, dataclasses.replace(chain.settings, **{stage: own})).run(str(shop))


@pytest.mark.slow
def test_hashed_ids(finished, tmp_path):
    _, chain = finished
    found = plans(chain, tmp_path / "rank", rank_hash_buckets=16)["cluster_id"]
    assert found.architecture.user_buckets == found.catalogue.hash_buckets == 16 and len(found.users) == 0
    every = artefacts.read(chain.directory(INGEST), INGEST).facts.item_columns
    assert len(every) > 1 and {"item", *(f"column/{column}" for column in every)} == set(found.catalogue.names)


@pytest.mark.slow
def test_large_tables_alone_are_hashed(finished, tmp_path):
    """The shop has more items than users; the limit lies between."""
    _, chain = finished
    whole = plans(chain, tmp_path / "whole")["none"]
    users, items = len(whole.users), whole.catalogue.sizes[0] - 1
    assert users + 1 < items
    hashed = plans(chain, tmp_path / "hashed", rank_hash_buckets=16, rank_hash_above=users)["none"]
    assert hashed.architecture.user_buckets == 0 and sorted(hashed.users) == sorted(whole.users)
    assert hashed.catalogue.hash_buckets == 16 and hashed.catalogue.sizes[0] == 17
    both = plans(chain, tmp_path / "both", rank_hash_buckets=16, rank_hash_above=users - 1)["none"]
    assert both.architecture.user_buckets == both.catalogue.hash_buckets == 16 and len(both.users) == 0


def test_more_replicas_than_gpus_are_refused(finished, tmp_path):
    with pytest.raises(RuntimeError, match="rank_replicas=3, but this machine has 0 GPUs"):
        plans(finished[1], tmp_path / "rank", rank_replicas=3)
    assert not np.any([path.name == "rank" for path in tmp_path.iterdir()]), "nothing half-made is left as a result"


def test_rankers_of_another_stage_are_taken_over_where_they_are_the_same(finished, tmp_path, caplog):
    _, chain = finished
    caplog.set_level("INFO")
    ingest, cluster, earlier = (chain.directory(stage) for stage in ("ingest", "cluster", "rank"))
    settings = dataclasses.replace(chain.settings.rank, rank_modes=("none",))
    made_by = MadeBy("rank", {}, {})
    left = pytest.raises(KeyboardInterrupt)
    with left, artefacts.write_aside(tmp_path / "rank", made_by, keep_partial=True) as draft:
        for mode in ("none", "cluster_id"):  # A copy was interrupted, the source of another is gone since.
            (draft.path / f".{mode}{COPY_SUFFIX}").mkdir()
            (draft.path / f".{mode}{COPY_SUFFIX}" / "half").write_text("")
        raise KeyboardInterrupt
    rank(ingest, cluster, None, tmp_path / "rank", settings, 0, made_by, {"none": earlier})
    assert "pass 1" not in caplog.text, "nothing is trained"
    assert {path.name for path in (tmp_path / "rank").iterdir()} == {"artefact.json", "none"}
    one, other = (path / "none" / "start_0" / "ranker.weights.h5" for path in (tmp_path / "rank", earlier))
    assert one.read_bytes() == other.read_bytes()
    found, expected = (artefacts.read(path, RANK).facts.metrics["none"] for path in (tmp_path / "rank", earlier))
    assert found == expected and expected["impressions"] > 0


def test_which_rankers_are_the_same():
    settings = {"rank_modes": ["none", "cluster_id", "simscore"], "rank_dim": 16, "seed": 0}
    one = MadeBy("rank", settings, {"ingest": "i", "cluster": "c", "embed": "e"})
    modes = ("none", "cluster_id", "simscore", "cluster_id+simscore", "cluster_id_permuted")

    def same_as(other):
        return [mode for mode in modes if same_rankers(mode, one, other)]

    assert same_as(MadeBy("rank", {**settings, "rank_modes": ["none"]}, one.inputs)) == list(modes)
    assert same_as(MadeBy("rank", settings, {"ingest": "i", "cluster": "c"})) == [
        "none", "cluster_id", "cluster_id_permuted",
    ]  # fmt: skip
    assert same_as(MadeBy("rank", settings, {**one.inputs, "cluster": "other", "embed": "other"})) == ["none"]
    assert same_as(MadeBy("rank", settings, {**one.inputs, "cluster": "other"})) == ["none", "simscore"]
    for changed in (
        MadeBy("rank", {**settings, "seed": 1}, one.inputs),
        MadeBy("rank", {**settings, "rank_dim": 8}, one.inputs),
        MadeBy("rank", settings, {**one.inputs, "ingest": "other"}),
        MadeBy("rank", settings, {**one.inputs, "previous": "other"}),
        dataclasses.replace(one, code={"courier_tf/ranking/model.py": "other"}),
    ):
        assert same_as(changed) == []
