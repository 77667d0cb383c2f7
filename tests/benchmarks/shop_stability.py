"""Do cluster IDs survive a retrain on one more day of the simulated shop?

python -m tests.benchmarks.shop_stability OUT

Runs the preset `demo` with more clusters, up to the cluster stage. Then it runs again with the split a day later: the
encoder starts from the previous one, for a day's share of the steps or for all of them, and the clusters are learned
with the previous ones or without. Interrupted, it goes on where it stopped. Writes OUT/stability.md.
"""

import dataclasses
import itertools
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import tyro
from sklearn.metrics import adjusted_rand_score

from courier_tf.clusters.files import TABLE_FILE
from courier_tf.experiment.store import STORE_FOLDER, SharingChain
from courier_tf.process import prepare
from courier_tf.settings import Settings
from courier_tf.settings.presets import PRESETS
from courier_tf.shop import SHOP_FILE, ShopSettings, make_shop
from courier_tf.workdir import artefacts
from courier_tf.workdir.atomic import write_file
from courier_tf.workdir.stages import CLUSTER, INGEST

STEPS = (10, PRESETS["demo"].pretrain.pretrain_steps)  # A day's share, as the train span has about 15 days; and all.
ALGORITHMS = ("kmeans", "online", "residual")


def changed(settings: Settings, **parts: dict) -> Settings:
    """`settings` with some values of some stages changed."""
    new = {name: dataclasses.replace(getattr(settings, name), **values) for name, values in parts.items()}
    return dataclasses.replace(settings, **new)


def cluster_ids(cluster: Path) -> dict[str, int]:
    table = pq.read_table(cluster / TABLE_FILE)
    return dict(zip(table["item_id"].to_pylist(), table["cluster_id"].to_pylist(), strict=True))


def run(raw: Path, workdir: Path, settings: Settings) -> artefacts.Artefact:
    """The chain up to the cluster stage, with the stages before it made once for all clusterings of a day."""
    chain = SharingChain(workdir, settings, store=workdir.parent / STORE_FOLDER)
    chain.write_settings()
    chain.ingest(str(raw))
    chain.pretrain()
    chain.embed()
    chain.cluster()
    return artefacts.read(workdir / "cluster", CLUSTER)


def main(out: tyro.conf.Positional[Path], clusters: int = 200) -> None:
    """Clusters twice by each algorithm, and compares.

    Args:
        out: folder of the shop, the workdirs and the table.
        clusters: their number.
    """
    prepare()
    raw = out / "shop"
    if not (raw / SHOP_FILE).exists():
        make_shop(raw, ShopSettings())
    lines = [
        "| steps of the retrain | algorithm | previous clusters | IDs kept, % | adjusted Rand index | distortion |",
        "|---|---|---|---|---|---|",
    ]
    for steps, algorithm in itertools.product(STEPS, ALGORITHMS):
        settings = changed(PRESETS["demo"], cluster={"clusters": clusters, "algorithm": algorithm})
        first = run(raw, out / f"first-{algorithm}", settings)
        facts = artefacts.read(first.path.parent / "ingest", INGEST).facts
        later = {
            "valid_from": str(date.fromisoformat(facts.valid_from) + timedelta(days=1)),
            "test_from": str(date.fromisoformat(facts.test_from) + timedelta(days=1)),
        }
        encoder = str(out / f"first-{ALGORITHMS[0]}" / "pretrain")
        for kind, previous in (("kept", str(first.path)), ("fresh", None)):
            start = {"previous_encoder": encoder, "previous_clusters": previous}
            again = changed(settings, ingest=later, pretrain={"pretrain_steps": steps}, previous=start)
            found = run(raw, out / f"{steps}-{kind}-{algorithm}", again)
            old, new = cluster_ids(first.path), cluster_ids(found.path)
            pairs = np.array([(old[item], new[item]) for item in old if old[item] >= 0 and new.get(item, -1) >= 0])
            kept = 100 * (pairs[:, 0] == pairs[:, 1]).mean()
            lines.append(
                f"| {steps} | {algorithm} | {'at hand' if previous else 'unknown'} | {kept:.1f} "
                f"| {adjusted_rand_score(*pairs.T):.3f} | {found.facts.quality['distortion']:.4f} |"
            )
            write_file(out / "stability.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    tyro.cli(main)
