"""The chain as a user meets it: commands, skipping, what is measured and served."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import log_loss

from beam_jobs.stable import stable_hash
from courier_tf.clusters.seeding import ClusterError
from courier_tf.commands.predict import predict
from courier_tf.commands.similar import similar
from courier_tf.exporting.versions import newest_version
from courier_tf.ranking import data
from courier_tf.ranking.evaluation import MAIN_SLICES, read_evaluation
from courier_tf.ranking.predicting import predict as predict_split
from courier_tf.ranking.ranker_files import load_ranker
from courier_tf.settings import Settings
from courier_tf.workdir.records import read_items
from serving.bundle.graph_model import GraphModel


def test_metrics_file(finished):
    _, chain = finished
    content = json.loads((chain.workdir / "metrics.json").read_text())
    assert set(content["ranking"]) == {"none", "cluster_id", "cluster_id_permuted"}
    found = content["ranking"]["cluster_id"]
    assert set(found) == {"valid"}, "test is read with --final only"
    assert set(MAIN_SLICES) | {"history_length/1", "category/dress"} <= set(found["valid"]["slices"])
    assert {"auc", "gauc", "ndcg@10", "logloss", "gauc_skipped_share"} <= set(found["valid"])
    assert set(content["category_gates"]) == {"cluster_id", "cluster_id_permuted"}, (
        "none has no visual feature to switch off"
    )
    for mode, found in content["ranking"].items():
        tried = content["learning_rates"][mode]
        assert [list(losses) for losses in tried] == [["0.001"], ["0.001"]], "one for each start"
        # That of a mode is the mean of its starts.
        assert found["valid"]["logloss"] == pytest.approx(np.mean([losses["0.001"] for losses in tried]), rel=1e-5)
    assert "dress" in content["category_gates"]["cluster_id"] and all(
        g in (0, 0.5, 1) for g in content["category_gates"]["cluster_id"].values()
    )
    assert 0 < found["valid"]["logloss"] < 1
    assert not (chain.workdir / "test_readings.json").exists()


@pytest.mark.slow
def test_each_reading_of_the_test_span_is_counted(finished):
    _, chain = finished
    for reading in (1, 2):
        content = chain.report(final=True)
        assert len(json.loads((chain.workdir / "test_readings.json").read_text())) == reading
    assert content["ranking"]["none"]["test"]["impressions"] > 0


def test_nothing_is_done_twice(finished, capsys, caplog):
    shop, chain = finished
    caplog.set_level("INFO")
    before = {p: p.stat().st_mtime_ns for p in chain.workdir.rglob("artefact.json")}
    chain.run(str(shop))
    assert (capsys.readouterr().out + caplog.text).count("unchanged, skipped") == 9
    assert before == {p: p.stat().st_mtime_ns for p in chain.workdir.rglob("artefact.json")}


def test_served_probabilities_equal_the_trained_models(finished):
    _, chain = finished
    version = newest_version(chain.workdir / "models" / "ctr_ranker")
    items = read_items(chain.directory("ingest"), ["brand"])
    evaluation = read_evaluation(chain.directory("ingest"), "valid", items, ())
    served, offset = GraphModel(version), 0
    losses, starts = [], []
    for start in range(2):
        ranker = load_ranker(chain.directory("rank") / "cluster_id" / f"start_{start}")
        starts.append(predict_split(ranker, chain.directory("ingest"), "valid", 20))
        losses.append(log_loss(evaluation.clicked, starts[-1]))
    content = json.loads((chain.workdir / "metrics.json").read_text())["ranking"]["cluster_id"]["valid"]
    assert content["logloss"] == pytest.approx(np.mean(losses), abs=1e-6) and losses[0] != losses[1]
    trained = starts[int(np.argmin(losses))]  # The better start is served.
    for batch in data.impression_batches(chain.directory("ingest"), "valid", history_length=20, batch_size=200):
        answer = served(**{name: batch[name].numpy() for name in ("user_id", "history_item_ids", "item_id")})
        rows = len(answer["probability"])
        np.testing.assert_allclose(answer["probability"], trained[offset : offset + rows], atol=1e-5)
        offset += rows
    assert offset == len(trained) > 500


def test_served_ranker_takes_any_history(finished):
    _, chain = finished
    served = GraphModel(newest_version(chain.workdir / "models" / "ctr_ranker"))
    ids = read_items(chain.directory("ingest"), []).ids
    longer = np.array([list(ids[:30])], object)
    values = [
        served(user_id=[b"u1"], history_item_ids=history, item_id=[ids[40]])["probability"][0]
        for history in (longer, longer[:, -20:], np.zeros([1, 0], object), np.array([[b""]], object))
    ]
    assert values[0] == pytest.approx(values[1]) and values[2] == pytest.approx(values[3])
    assert values[0] != values[2]
    unknown = served(user_id=[b"nobody"], history_item_ids=[[b"nothing"]], item_id=[b"never seen"])
    assert 0 < unknown["probability"][0] < 1


def test_embeddings_stand_in_the_order_of_their_hashes(finished):
    """So the first rows are a fair sample, and the same on every runner."""
    shop, chain = finished
    files = sorted((chain.directory("embed") / "items").glob("*"))
    assert [file.name for file in files] == [f"embeddings-0000{shard}-of-00002.parquet" for shard in range(2)]
    category = pd.read_csv(shop / "items.csv").set_index("item_id")["category"]
    found = []
    for shard, file in enumerate(files):
        rows = pd.read_parquet(file)
        hashes = [stable_hash(item) for item in rows["item_id"]]
        assert hashes == sorted(hashes) and {number % 2 for number in hashes} == {shard}
        assert rows["category"].tolist() == category[rows["item_id"]].tolist()
        found += rows["item_id"].tolist()
    assert sorted(found) == sorted(category.index)


def test_served_embedder_gives_the_cluster_of_the_table(finished):
    shop, chain = finished
    served = GraphModel(newest_version(chain.workdir / "models" / "image_embedder"))
    table = pd.read_parquet(chain.directory("cluster") / "item_clusters.parquet").set_index("item_id")["cluster_id"]
    rows = pd.read_csv(shop / "items.csv")
    rows = rows[~rows["image"].str.endswith("webp")].head(40)
    photos = np.array([(shop / image).read_bytes() for image in rows["image"]], object)
    answer = served(photos=photos)
    np.testing.assert_allclose(np.linalg.norm(answer["embedding"], axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(answer["cluster_id"], [table[item] for item in rows["item_id"]])


def test_predict_command(finished, capsys):
    _, chain = finished
    ids = [item.decode() for item in read_items(chain.directory("ingest"), []).ids[:3]]
    found = predict(chain.workdir, "u1", ids[:2], [ids[2]])
    printed = capsys.readouterr().out
    assert all(item in printed for item in ids[:2]) and found.shape == (2,)
    names = ["[a1]", "[/x]", ":dress:"]  # Unknown ones are defined, too.
    predict(chain.workdir, "[sale]", names, [])
    printed = capsys.readouterr().out
    assert all(name in printed for name in [*names, "[sale]"]), "they mean nothing but themselves"


def test_similar_command(finished, capsys):
    """Against all pairs; an item is not similar to itself."""
    _, chain = finished
    rows = pd.concat(map(pd.read_parquet, sorted((chain.directory("embed") / "items").glob("*"))))
    rows = rows[rows["embedding"].notna()].set_index("item_id")
    cosine = pd.DataFrame(np.stack(rows["embedding"]) @ np.stack(rows["embedding"]).T, rows.index, rows.index)
    found = similar(chain.workdir, tuple(rows.index[:2]), 4)
    for item in rows.index[:2]:
        others = cosine[item].drop(item).sort_values(ascending=False)[:4]
        np.testing.assert_allclose([value for _, value in found[item]], others, atol=1e-5)
        np.testing.assert_allclose(cosine.loc[[name for name, _ in found[item]], item], others, atol=1e-5)
    printed = capsys.readouterr().out
    assert all(item in printed for item in rows.index[:2])
    with Image.open(chain.workdir / "similar.png") as page:
        assert page.width > 100
    with pytest.raises(ClusterError, match="no embedding of nothing: not in the catalogue"):
        similar(chain.workdir, ("nothing",), 4)


def test_the_counts_of_ingest_are_told(finished, caplog):
    shop, chain = finished
    caplog.set_level("INFO")
    chain.ingest(str(shop))
    for told in ("events      7,200 read, 7,200 used", "items       160 read, 160 used", "photos      160 stored"):
        assert told in caplog.text


def test_settings_survive_the_workdir(finished):
    _, chain = finished
    assert Settings.from_json((chain.workdir / "settings.json").read_text()) == chain.settings


def test_popularity_guard_is_the_auc_of_train_clicks(finished):
    shop, chain = finished
    content = json.loads((chain.workdir / "metrics.json").read_text())
    valid_from, test_from = (content["data"][f"{split}_from_seconds"] for split in ("valid", "test"))
    events = pd.read_csv(shop / "events.csv")
    clicks = events[(events["timestamp"] < valid_from) & (events["clicked"] == 1)]["item_id"].value_counts()
    valid = events[(events["timestamp"] >= valid_from) & (events["timestamp"] < test_from)]
    score, clicked = valid["item_id"].map(clicks).fillna(0).to_numpy(), valid["clicked"].to_numpy() == 1
    # The probability that a clicked impression's item is the more popular one, ties counting half.
    difference = score[clicked][:, None] - score[~clicked][None, :]
    expected = (difference > 0).mean() + (difference == 0).mean() / 2
    found = content["popularity"]["valid"]
    assert found["auc"] == pytest.approx(expected)
    assert found["cold_share_of_unclicked"] == pytest.approx((score[~clicked] == 0).mean())
