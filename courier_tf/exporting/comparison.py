"""What is served against what was trained: every signature is asked, and its answers compared."""

import itertools
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from courier_tf import images, schema
from courier_tf.clusters.embedding_files import EmbeddingFiles
from courier_tf.clusters.files import CODEBOOK_FILE
from courier_tf.exporting import warm_up_requests
from courier_tf.exporting.finished_stages import Stages
from courier_tf.pretrain.fit import ENCODER_FOLDER
from courier_tf.pretrain.frozen_encoder import Embedder
from courier_tf.ranking.data import impression_batches
from courier_tf.ranking.ranker_files import load_ranker
from courier_tf.schema import RowStatus
from serving.bundle.batching import MOST_ROWS
from serving.bundle.graph_model import GraphModel

LARGEST_DIFFERENCE = 1e-5  # Between what is served and what was trained.
BATCH = 4096
COMPARED_BATCHES = 2  # Of impressions, with the trained ranker.
RANKED = 8  # Candidates of a user in that comparison.


def differences(served: Mapping[str, GraphModel], stages: Stages) -> list[str]:
    """Asks the served models what the trained ones are asked.

    Args:
        served: model -> its version.
        stages: with what was trained.

    Returns:
        A reason for each signature whose answers differ by more than LARGEST_DIFFERENCE, or that has none.
    """
    photos = warm_up_requests.photo_requests(stages.ingest.path, schema.DEFAULT_SIGNATURE)[-1].inputs["photos"]
    encoder = Embedder(stages.pretrain.path / ENCODER_FOLDER, stages.pretrain.facts["image_size"])
    embedded = encoder.embed(tf.constant(photos))["embedding"].numpy()
    comparisons: dict[str, Callable[[GraphModel], list[str]]] = {
        schema.CTR_RANKER: lambda model: _ranker(model, stages),
        schema.IMAGE_EMBEDDER: lambda model: _embedder(model, stages, photos, embedded),
        schema.SIMILAR_ITEMS: lambda model: _similar_items(model, stages, photos, embedded),
    }
    reasons = []
    for name, compare in comparisons.items():
        try:
            reasons += compare(served[name])
        except (tf.errors.OpError, KeyError, ValueError) as error:
            reasons.append(f"{name} cannot be compared with what was trained: {error!r}")
    return reasons


def valid_batches(
    stages: Stages, history_length: int | None, take_clicked: Callable[[np.ndarray], object] = lambda _: None
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of impressions of the valid span, as a ranker takes them; `clicked` is handed over beside them.

    `history_length`: most recent history items; None for all: a served ranker looks at as many as it was trained on.
    """
    for batch in impression_batches(stages.ingest.path, "valid", history_length=history_length, batch_size=BATCH):
        take_clicked(batch["clicked"].numpy())
        yield {name: batch[name].numpy() for name in schema.EXAMPLE_FEATURES}


def _ranker(served: GraphModel, stages: Stages) -> list[str]:
    ranker, worst = load_ranker(stages.ranker), {}

    def trained(features: Mapping[str, np.ndarray]) -> np.ndarray:
        return ranker({name: tf.constant(value) for name, value in features.items()}, training=False).numpy()

    for batch in itertools.islice(valid_batches(stages, stages.history_length), COMPARED_BATCHES):
        # The first users, each with some of the batch's candidates.
        some = {name: value[:MOST_ROWS] for name, value in batch.items()}
        candidates = np.stack([np.roll(batch["item_id"], shift)[:MOST_ROWS] for shift in range(RANKED)], axis=1)
        pairs = {name: np.repeat(value, RANKED, axis=0) for name, value in some.items()} | {
            "item_id": candidates.ravel()
        }
        rows = zip(*(some[name] for name in schema.EXAMPLE_FEATURES), strict=True)
        examples = {"inputs": np.array([warm_up_requests.serialised_example(*row) for row in rows], object)}
        alone = trained(some)
        for name, difference in {
            "pairs": served(**batch)["probability"] - trained(batch),
            "rank": served.run(schema.RANK, {**some, "item_id": candidates})["probability"].ravel() - trained(pairs),
            "examples": served.run(schema.EXAMPLES, examples)["probability"] - alone,
            "classify": served.run(schema.CLASSIFY, examples)["scores"] - np.stack([1 - alone, alone], axis=1),
            "regress": served.run(schema.REGRESS, examples)["outputs"] - alone,
        }.items():
            worst[name] = float(np.maximum(worst.get(name, 0.0), _largest(difference)))  # Unlike max() it keeps NaN.
    return [
        f"the ranker's {name} are served with a difference of {value:.2g} to what was trained"
        for name, value in worst.items()
        if not value <= LARGEST_DIFFERENCE
    ]


def _embedder(served: GraphModel, stages: Stages, photos: np.ndarray, embedded: np.ndarray) -> list[str]:
    size, reasons = stages.pretrain.facts["image_size"], []
    pixels = np.stack([images.decode(tf.constant(photo), size).numpy() for photo in photos])
    for given, found in (("photos", served(photos=photos)), ("pixels", served.run(schema.PIXELS, {"pixels": pixels}))):
        difference = _largest(found["embedding"] - embedded)
        if not difference <= LARGEST_DIFFERENCE:
            reasons.append(f"embeddings of {given} are served with a difference of {difference:.2g} to the encoder's")
        wrong = _wrong_level(found, np.load(stages.cluster.path / CODEBOOK_FILE))
        if wrong is not None:
            reasons.append(f"codes of level {wrong} of {given} are not those of the codebook in {stages.cluster.path}")
    return reasons


def _wrong_level(found: Mapping[str, np.ndarray], codebook: np.ndarray) -> int | None:
    """The first level whose codes are not those of the nearest centroids, None if all are."""
    if not np.array_equal(found["cluster_id"], found["codes"][:, 0]):
        return 0
    left = found["embedding"]
    for level, centroids in enumerate(codebook):
        distance = ((left[:, None] - centroids) ** 2).sum(axis=2)
        chosen = found["codes"][:, level]
        if ((chosen < 0) | (chosen >= len(centroids))).any():
            return level
        # A centroid that is as near as the nearest, up to rounding, is as good.
        if (np.take_along_axis(distance, chosen[:, None], 1)[:, 0] > distance.min(axis=1) + LARGEST_DIFFERENCE).any():
            return level
        left = left - centroids[chosen]
    return None


def _similar_items(served: GraphModel, stages: Stages, photos: np.ndarray, embedded: np.ndarray) -> list[str]:
    ids, embeddings = EmbeddingFiles(stages.embed.path).all_items()
    asked = np.unique(np.linspace(0, len(ids) - 1, MOST_ROWS).astype(int))
    among_themselves = embeddings[asked] @ embeddings.T
    among_themselves[np.arange(len(asked)), asked] = -np.inf
    place, reasons = {item.encode(): row for row, item in enumerate(ids)}, []
    for by, found, cosine in (
        ("item", served(item_id=np.array([ids[row].encode() for row in asked], object)), among_themselves),
        ("photo", served.run(schema.BY_PHOTO, {"photos": photos}), embedded @ embeddings.T),
        ("embedding", served.run(schema.BY_EMBEDDING, {"embedding": 2 * embedded}), embedded @ embeddings.T),
    ):
        difference = _of_neighbours(found, cosine, place)
        if not difference <= LARGEST_DIFFERENCE:
            reasons.append(
                f"similar items by {by} are served with a difference of {difference:.2g} to those of "
                f"{stages.embed.path}"
            )
    return reasons


def _of_neighbours(found: Mapping[str, np.ndarray], cosine: np.ndarray, place: Mapping[bytes, int]) -> float:
    """Largest difference of the similarities that are served to the largest [B, N] cosines, and to those of the items
    that are named; infinite where an item is not known or a row has no answer."""
    if (found["status"] != RowStatus.OK).any():
        return np.inf
    expected = -np.sort(-cosine, axis=1)[:, : found["similarity"].shape[1]]
    worst = _largest(found["similarity"] - np.where(np.isfinite(expected), expected, 0.0))
    for row, items in enumerate(found["item_ids"]):
        # An answer that is too short ends with "" and 0.
        named = [cosine[row, place[item]] if item in place else 0.0 if item == b"" else np.inf for item in items]
        worst = float(np.maximum(worst, _largest(found["similarity"][row] - named)))
    return worst


def _largest(difference: np.ndarray) -> float:
    """NaN stays NaN, and passes no comparison."""
    return float(np.abs(difference).max(initial=0.0))
