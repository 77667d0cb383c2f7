"""The table of users' interests: against the raw log and a slow search for the nearest centroid."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from courier_tf.commands.program import main


def clicks_of(shop):
    """User -> clicked items, oldest first; those of a page view in any order, as a list of sets."""
    events = pd.read_csv(shop / "events.csv", dtype={"user_id": str, "item_id": str})
    events = events[events["clicked"] == 1].sort_values("timestamp", kind="stable")
    return {
        user: [set(view["item_id"]) for _, view in of_user.groupby("request_id", sort=False)]
        for user, of_user in events.groupby("user_id")
    }


def nearest(items, codes, centroids):
    """The cluster nearest to items, the newest last."""
    units = centroids / np.linalg.norm(centroids, axis=1, keepdims=True)
    known = [
        (1 + 1e-3 * place**0.5) * units[codes[item]]
        for place, item in enumerate(items)
        if item in codes and codes[item] >= 0
    ]
    return int(np.argmax(units @ np.sum(known, axis=0))) if known else -1


def test_the_table_equals_the_log(finished, tmp_path, capsys):
    shop, chain = finished
    main(["interests", "--workdir", str(chain.workdir), "--out", str(tmp_path / "users.parquet")])
    table = pd.read_parquet(tmp_path / "users.parquet").set_index("user_id")
    users = set(pd.read_csv(shop / "events.csv", dtype={"user_id": str})["user_id"])
    assert set(table.index) == users and table.index.is_monotonic_increasing
    assert f"{len(users)} users: " in capsys.readouterr().out
    clusters = pq.read_table(chain.workdir / "cluster" / "item_clusters.parquet").to_pydict()
    codes = dict(zip(clusters["item_id"], clusters["cluster_id"], strict=True))
    centroids = np.load(chain.workdir / "cluster" / "codebook.npy")[0]
    views_of, agree, compared = clicks_of(shop), 0, 0
    for user, row in table.iterrows():
        views = views_of.get(user, [])
        assert row["clicks"] == min(sum(map(len, views)), 20)
        if all(len(view) == 1 for view in views):  # Else their order is not told.
            items = [item for view in views for item in view]
            compared += 1
            agree += row["interest_cluster_id"] == nearest(items[-20:], codes, centroids)
    assert compared > 15 and agree == compared
    assert table["interest_cluster_id"].nunique() > 3


def test_fewer_clicks_and_a_stage_that_is_missing(finished, tmp_path):
    workdir = finished[1].workdir
    main(["interests", "--workdir", str(workdir), "--out", str(tmp_path / "two.parquet"), "--clicks", "2"])
    assert pd.read_parquet(tmp_path / "two.parquet")["clicks"].max() == 2
    with pytest.raises(SystemExit, match="cluster|ingest"):
        main(["interests", "--workdir", str(tmp_path), "--out", str(tmp_path / "none.parquet")])
    assert not (tmp_path / "none.parquet").exists()
