"""How much of what embeddings tell of clicks is left in cluster IDs, by the number of clusters. No ranker is involved.

python -m tests.benchmarks.clusters.ids_alone RUN

RUN is a workdir with ingest and embed. Clusters are scikit-learn's. Prints the AUC in points of two scores of
the valid span's candidates that are new to the user: the share of the user's last history items in the candidate's
cluster, and the mean cosine of its centroid with theirs. The mean cosine of the embeddings stands beside them.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import tyro
from sklearn.cluster import KMeans
from sklearn.metrics import roc_auc_score

from courier_tf.clusters.embedding_files import EmbeddingFiles
from courier_tf.pretrain.score import HISTORY
from courier_tf.ranking.data import impression_batches
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.stages import INGEST


class Impressions(NamedTuple):
    """Candidates that are new to the user, with a photo, and a history with one.

    Attributes:
        candidate: [N] row of the item.
        history: [N, HISTORY] rows; -1 where there is no item with a photo.
        clicked: [N] 0 or 1.
    """

    candidate: np.ndarray
    history: np.ndarray
    clicked: np.ndarray


def impressions(ingest: Path, items: records.Items, has_photo: np.ndarray, repeat_columns: list[str]) -> Impressions:
    row_of = {item: row for row, item in enumerate(items.ids)}
    parts = []
    for batch in impression_batches(ingest, "valid", history_length=HISTORY, batch_size=8192):
        candidate, history = (
            np.vectorize(lambda item: row_of.get(item, -1), otypes=[int])(batch[name].numpy())
            for name in ("item_id", "history_item_ids")
        )
        fresh = ~items.repeats(candidate, history, repeat_columns)
        history = np.pad(history, [(0, 0), (0, HISTORY - history.shape[1])], constant_values=-1)
        history = np.where(has_photo[history], history, -1)
        usable = fresh & has_photo[candidate] & (history >= 0).any(axis=1)
        parts.append((candidate[usable], history[usable], batch["clicked"].numpy()[usable]))
    return Impressions(*map(np.concatenate, zip(*parts, strict=True)))


def auc_of_mean(one_with_another: np.ndarray, rows: Impressions) -> float:
    """AUC in points of the mean of [N, HISTORY] over the history items that are there."""
    there = rows.history >= 0
    mean = np.where(there, one_with_another, 0).sum(axis=1) / there.sum(axis=1)
    return 100 * roc_auc_score(rows.clicked, mean.round(5))


def cosines(vectors: np.ndarray, rows: Impressions) -> np.ndarray:
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.einsum("nd,nhd->nh", unit[rows.candidate], unit[rows.history])


def main(run: tyro.conf.Positional[Path], clusters: tuple[int, ...] = (20, 50, 200, 1000, 3000)) -> None:
    """Prints a Markdown table."""
    facts = artefacts.read(run / "ingest", INGEST).facts
    items = records.read_items(run / "ingest", facts.all_columns)
    row_of = {item.decode(): row for row, item in enumerate(items.ids)}
    names, known = EmbeddingFiles(run / "embed").all_items()
    embeddings = np.zeros([len(items.ids), known.shape[1]], np.float32)
    embeddings[[row_of[name] for name in names]] = known
    has_photo = embeddings.any(axis=1)
    rows = impressions(run / "ingest", items, has_photo, facts.repeat_columns)
    sample = embeddings[has_photo & items.in_train_span(facts.valid_from_seconds)]
    print(f"{len(rows.clicked):,} impressions; embeddings: {auc_of_mean(cosines(embeddings, rows), rows):.2f}\n")
    print(
        "| clusters | share of the history in the candidate's cluster | mean cosine of the centroids |\n|---|---|---|"
    )
    for number in clusters:
        clusters = KMeans(number, n_init=1, random_state=0).fit(sample)
        code = clusters.predict(embeddings)
        same = auc_of_mean(code[rows.candidate][:, None] == code[rows.history], rows)
        alike = auc_of_mean(cosines(clusters.cluster_centers_[code], rows), rows)
        print(f"| {number} | {same:.2f} | {alike:.2f} |", flush=True)


if __name__ == "__main__":
    tyro.cli(main)
