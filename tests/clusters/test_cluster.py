"""The cluster stage on handmade embeddings: what it writes, what a second run keeps, what it refuses."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image

from courier_tf import schema
from courier_tf.clusters import learn
from courier_tf.clusters.cluster import cluster
from courier_tf.clusters.files import CODEBOOK_FILE, SHEETS_FOLDER, TABLE_FILE
from courier_tf.clusters.nearest import nearest
from courier_tf.clusters.seeding import ClusterError
from courier_tf.settings import ClusterSettings
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.artefacts import ARTEFACT_FILE
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import CLUSTER
from tests.sealing import seal_description

from .planted import like_embeddings, photo_of, planted, write_embeddings

CLUSTERS = 5
SETTINGS = ClusterSettings(clusters=CLUSTERS, cluster_batch_size=128)


def write_stages(folder, points, label, bare=2):
    """An ingest and an embed stage with these embeddings; `bare` further items have no photo."""
    names = [f"i{n:04d}" for n in range(len(points) + bare)]
    (folder / "ingest" / schema.ITEMS_FOLDER).mkdir(parents=True)
    with tf.io.TFRecordWriter(str(folder / "ingest" / schema.ITEMS_FOLDER / "items-00000-of-00001.tfrecord")) as out:
        for number, name in enumerate(names):
            category = f"c{label[number]}" if number < len(points) else "c0"
            image = photo_of(label[number]) if number < len(points) else b""
            values = {"item_id": name, "image": image, "photo_digest": b"", "title": "", "available_from": 0}
            values |= {"train_impressions": 0, "train_events": 0}
            features = records.item_features([schema.CATEGORY])
            out.write(records.serialise({**values, schema.column_feature(schema.CATEGORY): category}, features))
    write_embeddings(folder / "embed", points, label, bare)
    return folder


def run(folder, name="cluster", seed=0, previous=None, **settings):
    chosen = dataclasses.replace(SETTINGS, **settings)
    made_by = MadeBy("cluster", {}, {"n": name})
    cluster(folder / "ingest", folder / "embed", folder / name, chosen, seed, made_by, previous)
    table = pq.read_table(folder / name / TABLE_FILE).to_pydict()
    facts = artefacts.read(folder / name, CLUSTER).facts
    return np.array(table["cluster_id"]), np.load(folder / name / CODEBOOK_FILE)[0], facts


@pytest.fixture(autouse=True)
def stream(monkeypatch):
    """The algorithm `online` begins with so few embeddings that most of these go through its single pass."""
    monkeypatch.setattr(learn, "SEEN_AT_START", 20)


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    points, label = planted(CLUSTERS, dim=32)
    return write_stages(tmp_path_factory.mktemp("stages"), points, label), points, label


@pytest.mark.parametrize("algorithm", ["kmeans", "online", "agglomerative", "hdbscan"])
def test_table_codebook_and_report(stages, algorithm):
    folder, points, label = stages
    ids, centroids, facts = run(folder, algorithm=algorithm)
    np.testing.assert_array_equal(ids[:-2], nearest(points, centroids)[0])
    np.testing.assert_array_equal(ids[-2:], [-1, -1])
    assert facts.items_without_photo == 2 and facts.encoder == "abc"
    train = np.arange(len(points)) % 10 > 0
    report = facts.quality
    distance = ((points - centroids[ids[:-2]]) ** 2).sum(axis=1)
    assert report["distortion"] == pytest.approx(distance[train].mean(), rel=1e-4)
    assert report["purity"] > 0.9 and report["nmi"] > 0.9 and report["neighbours_kept"] > 0.9
    assert 2 < report["effective_rank"] < 32 and report["pairs_cosine"] < 0.5 < report["neighbours_cosine"] < 1


def test_codes_of_several_levels(stages):
    folder, points, _ = stages
    ids, _, facts = run(folder, "residual", algorithm="residual", levels=3)
    codes = np.array(pq.read_table(folder / "residual" / TABLE_FILE)["codes"].to_pylist())
    codebook = np.load(folder / "residual" / CODEBOOK_FILE)
    rebuilt = sum(codebook[level, codes[:-2, level]] for level in range(3))
    train = np.arange(len(points)) % 10 > 0
    distortion = ((points - rebuilt) ** 2).sum(axis=1)[train].mean()
    assert facts.quality["distortion"] == pytest.approx(distortion, rel=1e-4) and facts.levels == 3
    np.testing.assert_array_equal(codes[:, 0], ids)
    np.testing.assert_array_equal(codes[-2:], -1)


def test_ids_are_kept_where_nothing_can_start_from_the_previous_clusters(stages):
    """Trees of other items number the same clusters otherwise; with the previous stage at hand the numbers stay."""
    folder, points, _ = stages
    ids, _, _ = run(folder, "first")
    other, _, _ = run(folder, "other", algorithm="agglomerative")
    assert (ids == other)[:-2].mean() < 0.9
    again, centroids, facts = run(folder, "again", algorithm="agglomerative", previous=folder / "first")
    assert (ids == again)[:-2].mean() > 0.95
    np.testing.assert_array_equal(again[:-2], nearest(points, centroids)[0])
    assert facts.ids_kept == pytest.approx((ids == again)[:-2].mean())
    assert facts.adjusted_rand_index > 0.95 and facts.items_in_previous == len(points)


@pytest.mark.parametrize("algorithm", ["kmeans", "online", "residual"])
def test_ids_are_kept_under_another_encoder(tmp_path, algorithm):
    """The embeddings are mirrored, some items are new: distances to the previous centroids mean nothing."""
    points, label = planted(CLUSTERS, dim=32)
    earlier = write_stages(tmp_path / "earlier", points[:250], label[:250])
    settings = {"algorithm": algorithm, "levels": 2}
    ids, _, _ = run(earlier, **settings)
    codes = np.array(pq.read_table(earlier / "cluster" / TABLE_FILE)["codes"].to_pylist())
    later = write_stages(tmp_path / "later", -points, label)
    again, _, facts = run(later, seed=5, previous=earlier / "cluster", **settings)
    assert (ids == again[: len(ids)])[:-2].mean() > 0.95 and facts.ids_kept > 0.95
    assert (facts.items_in_previous, facts.new_items) == (250, len(points) - 250)
    codes_again = np.array(pq.read_table(later / "cluster" / TABLE_FILE)["codes"].to_pylist())
    assert (codes[:250] == codes_again[:250]).mean() > 0.9


def test_incremental_assigns_new_items_and_touches_no_other(tmp_path):
    points, label = planted(CLUSTERS, dim=32)
    earlier = write_stages(tmp_path / "earlier", points[:250], label[:250])
    ids, centroids, _ = run(earlier)
    # What the previous items look like now would give some of them other IDs.
    moved = np.concatenate([np.roll(points[:250], 1, axis=0), points[250:]])
    later = write_stages(tmp_path / "later", moved, label)
    again, same, facts = run(later, algorithm="incremental", previous=earlier / "cluster")
    np.testing.assert_array_equal(same, centroids)
    np.testing.assert_array_equal(again[:250], ids[:250])
    np.testing.assert_array_equal(again[250:-2], nearest(points[250:], centroids)[0])
    assert (facts.ids_kept, facts.new_items) == (1.0, len(points) - 250)
    train = np.arange(len(points)) % 10 > 0
    distortion = ((moved - centroids[again[:-2]]) ** 2).sum(axis=1)[train].mean()
    assert facts.quality["distortion"] == pytest.approx(distortion, rel=1e-4)


@pytest.mark.parametrize("settings", [{"stay": 0.9}, {"algorithm": "residual", "levels": 2, "stay": 0.9}])
def test_the_table_says_which_cluster_is_the_nearest(tmp_path, settings):
    """Where items stay, it is not theirs: a served embedder, which knows the photo alone, answers the nearest."""
    points = like_embeddings(400, 32)
    earlier = write_stages(tmp_path / "earlier", points[:350], np.zeros(400, int))
    _, _, first = run(earlier, **settings)
    assert first.items_not_in_nearest is None
    table = pq.read_table(earlier / "cluster" / TABLE_FILE)
    assert table["cluster_id"] == table["nearest_cluster_id"] and table["codes"] == table["nearest_codes"]
    moved = points + 0.1 * np.random.default_rng(3).normal(size=points.shape).astype(np.float32)
    later = write_stages(tmp_path / "later", moved, np.zeros(400, int))
    ids, centroids, facts = run(later, previous=earlier / "cluster", **settings)
    table = pq.read_table(later / "cluster" / TABLE_FILE).to_pydict()
    left, codebook = moved, np.load(later / "cluster" / CODEBOOK_FILE)
    codes, found = np.array(table["codes"]), np.array(table["nearest_codes"])
    for level, centroids in enumerate(codebook):
        wanted = ((left[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
        np.testing.assert_array_equal(found[:-2, level], wanted)
        left = left - centroids[wanted]
    np.testing.assert_array_equal(found[-2:], -1)
    np.testing.assert_array_equal(found[:, 0], table["nearest_cluster_id"])
    assert facts.items_not_in_nearest == (codes != found).any(axis=1).sum()
    assert (ids != found[:, 0]).sum() > 10 and facts.quality["search_missed"] == 0
    new = (codes != found).any(axis=1)[350:]
    assert not new.any(), "new items have nowhere to stay"


def test_what_cannot_be_kept_is_refused(stages, tmp_path):
    folder, points, label = stages
    run(folder, "earlier")
    with pytest.raises(ClusterError, match="has 5 clusters on 1 level.*32, but asked for are 7 clusters on 1 level"):
        run(folder, "fewer", clusters=7, previous=folder / "earlier")
    assert not (folder / "fewer").exists()
    file = folder / "earlier" / ARTEFACT_FILE
    file.write_text(file.read_text().replace('"encoder": "abc"', '"encoder": "xyz"'))
    seal_description(file.parent)
    with pytest.raises(ClusterError, match="belongs to the encoder xyz, but these embeddings are of abc"):
        run(folder, "foreign", algorithm="incremental", previous=folder / "earlier")
    with pytest.raises(ClusterError, match="algorithm=incremental needs previous clusters"):
        run(folder, "alone", algorithm="incremental")


def test_an_interrupted_writing_of_the_sheets_goes_on(stages, monkeypatch):
    folder, _, _ = stages
    save, pages = Image.Image.save, iter([KeyboardInterrupt])

    def interrupted(page, file):
        save(page, file)
        for error in pages:
            raise error

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(folder, "interrupted")
    ids, _, _ = run(folder, "interrupted")
    np.testing.assert_array_equal(ids, run(folder, "whole")[0])


def test_a_day_without_a_photo_is_told(stages, tmp_path):
    """`incremental` looks at no embedding before the report does."""
    folder, points, label = stages
    run(folder, "before")
    bare = write_stages(tmp_path, points[:0], label[:0], bare=3)
    with pytest.raises(ClusterError, match="no item of the train span has an embedding"):
        run(bare, algorithm="incremental", previous=folder / "before")


def test_states_of_learning_are_gone_at_the_end(stages):
    folder, _, _ = stages
    run(folder, "finished")
    assert sorted(path.name for path in (folder / "finished").iterdir()) == sorted(
        [ARTEFACT_FILE, CODEBOOK_FILE, TABLE_FILE, SHEETS_FOLDER]
    )
