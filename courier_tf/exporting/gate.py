"""What must hold before new versions become `stable`."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf import artefacts, schema
from courier_tf.clusters.embedding_files import EmbeddingFiles
from courier_tf.clusters.files import CODEBOOK_FILE
from courier_tf.exporting import requests
from courier_tf.exporting.stages import Stages
from courier_tf.graph_model import GraphModel
from courier_tf.pretrain.embedder import Embedder
from courier_tf.pretrain.fit import ENCODER_FOLDER
from courier_tf.ranking.data import impression_batches
from courier_tf.ranking.metrics import auc
from courier_tf.ranking.saved import load_ranker
from courier_tf.settings import GateSettings
from serving import warmup
from serving.bundle import MOST_ROWS
from serving.stock_ops import StockOpsError, require_stock_ops
from serving.warmup import WarmUpError

LARGEST_DIFFERENCE = 1e-5  # Between what is served and what was trained.
BATCH = 4096
COMPARED_BATCHES = 2  # Of impressions, with the trained ranker.
RANKED = 8  # Candidates of a user in that comparison.
MOST_BATCHES = 64  # Of impressions, for AUC and calibration.


class GateError(ValueError):
    """The newest versions must not be promoted; the message lists every reason."""


def measure(
    stages: Stages,
    models: Path,
    newest: Mapping[str, int],
    stable: Mapping[str, int] | None,
    tolerances: GateSettings,
) -> dict[str, float]:
    """Checks the newest versions against what was trained and against the stable ones.

    Args:
        stages: that were exported.
        models: directory of all models.
        newest: model -> version to be promoted.
        stable: model -> version that is served now; None if none is.
        tolerances: of the comparison with `stable`.

    Returns:
        What was measured: AUC and calibration, and those of the stable version.

    Raises:
        GateError: with all reasons.
    """
    directories = {model: models / model / str(newest[model]) for model in schema.SERVED_MODELS if model in newest}
    missing = sorted(set(schema.SERVED_MODELS) - set(directories))
    if missing:
        raise GateError(f"{models} holds no version of {', '.join(missing)}. Run 'courier export' first.")
    reasons = [*_foreign_parts(stages, directories)]
    try:
        require_stock_ops(list(directories.values()))
    except StockOpsError as error:
        # What cannot be loaded cannot be measured.
        raise GateError("\n- ".join(["not promoted:", *reasons, str(error)])) from error
    loaded = {model: GraphModel(directory) for model, directory in directories.items()}
    for model, directory in directories.items():
        try:
            warmup.replay(directory, loaded[model])
        except WarmUpError as error:
            reasons.append(str(error))
    reasons += _ranker_differs(loaded[schema.CTR_RANKER], stages)
    reasons += _embedder_differs(loaded[schema.IMAGE_EMBEDDER], stages)
    reasons += _similar_items_differ(loaded[schema.SIMILAR_ITEMS], stages)
    found = _quality(loaded[schema.CTR_RANKER], stages)
    if not math.isfinite(found["auc"]):
        reasons.append("AUC on the valid span is not defined: clicks of one kind, or scores that are not finite")
    if stable:
        before = _quality(GraphModel(models / schema.CTR_RANKER / str(stable[schema.CTR_RANKER])), stages)
        if found["auc"] < before["auc"] - tolerances.auc_tolerance:
            reasons.append(f"AUC {found['auc']:.4f}, but the stable version has {before['auc']:.4f}")
        if found["calibration_error"] > before["calibration_error"] + tolerances.calibration_tolerance:
            reasons.append(
                f"calibration {found['calibration']:.3f}, but the stable version has {before['calibration']:.3f}"
            )
        found |= {f"stable_{name}": value for name, value in before.items()}
    if reasons:
        raise GateError("\n- ".join(["not promoted:", *reasons]))
    return found


def _foreign_parts(stages: Stages, directories: Mapping[str, Path]) -> list[str]:
    """Versions whose files have changed, or that were not made from these stages."""
    rank, cluster, embed = (stage.fingerprint for stage in (stages.rank, stages.cluster, stages.embed))
    wanted = {
        schema.CTR_RANKER: {"rank": rank, "cluster": cluster},
        schema.IMAGE_EMBEDDER: {"encoder": stages.encoder, "cluster": cluster},
        schema.SIMILAR_ITEMS: {"encoder": stages.encoder, "embed": embed},
    }
    reasons = []
    for model, directory in directories.items():
        version = artefacts.read(directory, "export")
        if artefacts.fingerprint_of_tree(directory) != version.fingerprint:
            reasons.append(f"{directory}: its files are not those that were exported")
        for name, fingerprint in wanted[model].items():
            found = version.made_by.inputs.get(name)
            if found != fingerprint:
                reasons.append(
                    f"{directory} belongs to the {name} {found}, not to {fingerprint}: run 'courier export' again"
                )
    if stages.cluster.facts["encoder"] != stages.encoder:
        reasons.append(
            f"encoder and codebook do not belong together: {stages.cluster.path} was made with the encoder "
            f"{stages.cluster.facts['encoder']}, not with {stages.encoder}"
        )
    return reasons


def _ranker_differs(served: GraphModel, stages: Stages) -> list[str]:
    ranker, worst = load_ranker(stages.ranker), {"pairs": 0.0, "rank": 0.0}

    def trained(features: Mapping[str, np.ndarray]) -> np.ndarray:
        return ranker({name: tf.constant(value) for name, value in features.items()}, training=False).numpy()

    for batch in itertools.islice(_batches(stages), COMPARED_BATCHES):
        # The first users, each with some of the batch's candidates.
        some = {name: value[:MOST_ROWS] for name, value in batch.items()}
        candidates = np.stack([np.roll(batch["item_id"], shift)[:MOST_ROWS] for shift in range(RANKED)], axis=1)
        pairs = {name: np.repeat(value, RANKED, axis=0) for name, value in some.items()} | {
            "item_id": candidates.ravel()
        }
        ranked = served.run(schema.RANK, {**some, "item_id": candidates})["probability"].ravel()
        for name, difference in (
            ("pairs", served(**batch)["probability"] - trained(batch)),
            ("rank", ranked - trained(pairs)),
        ):
            worst[name] = float(np.maximum(worst[name], _largest(difference)))  # Unlike max() it keeps NaN.
    return [
        f"the ranker's {name} are served with a difference of {value:.2g} to what was trained"
        for name, value in worst.items()
        if not value <= LARGEST_DIFFERENCE
    ]


def _embedder_differs(served: GraphModel, stages: Stages) -> list[str]:
    photos = requests.photo_requests(stages.ingest.path, schema.DEFAULT_SIGNATURE)[-1].inputs["photos"]
    embedder = Embedder(stages.pretrain.path / ENCODER_FOLDER, stages.pretrain.facts["image_size"])
    trained = embedder.embed(tf.constant(photos))["embedding"].numpy()
    found, reasons = served(photos=photos), []
    difference = _largest(found["embedding"] - trained)
    if not difference <= LARGEST_DIFFERENCE:
        reasons.append(f"embeddings are served with a difference of {difference:.2g} to the trained encoder's")
    left = found["embedding"]
    for level, centroids in enumerate(np.load(stages.cluster.path / CODEBOOK_FILE)):
        distance = ((left[:, None] - centroids) ** 2).sum(axis=2)
        chosen = found["codes"][:, level]
        # A centroid that is as near as the nearest, up to rounding, is as good.
        if (np.take_along_axis(distance, chosen[:, None], 1)[:, 0] > distance.min(axis=1) + LARGEST_DIFFERENCE).any():
            reasons.append(f"codes of level {level} are not those of the codebook in {stages.cluster.path}")
            break
        left = left - centroids[chosen]
    return reasons


def _similar_items_differ(served: GraphModel, stages: Stages) -> list[str]:
    ids, embeddings = EmbeddingFiles(stages.embed.path).all_items()
    asked = np.unique(np.linspace(0, len(ids) - 1, MOST_ROWS).astype(int))
    found = served(item_id=np.array([ids[row].encode() for row in asked], object))
    cosine = embeddings[asked] @ embeddings.T
    cosine[np.arange(len(asked)), asked] = -np.inf
    place, worst = {item.encode(): row for row, item in enumerate(ids)}, 0.0
    for row, (items, similarity) in enumerate(zip(found["item_ids"], found["similarity"], strict=True)):
        known = [place.get(item, asked[row]) for item in items if item]  # An unknown one is infinitely far away.
        for expected in (cosine[row, known], -np.sort(-cosine[row])[: len(known)]):
            worst = float(np.maximum(worst, _largest(similarity[: len(known)] - expected)))
    if worst <= LARGEST_DIFFERENCE:
        return []
    return [f"similar items are served with a difference of {worst:.2g} to those of {stages.embed.path}"]


def _quality(served: GraphModel, stages: Stages) -> dict[str, float]:
    clicked, probability = [], []
    for batch in itertools.islice(_batches(stages, clicked.append), MOST_BATCHES):
        probability.append(served(**batch)["probability"])
    every, score = np.concatenate(clicked), np.concatenate(probability)
    calibration = float(score.mean() / max(every.mean(), 1e-9))
    value = auc(every, score) if np.isfinite(score).all() else None
    return {
        "impressions": len(every),
        "auc": math.nan if value is None else value,
        "calibration": calibration,
        "calibration_error": abs(math.log(max(calibration, 1e-9))),
    }


def _batches(
    stages: Stages, take_clicked: Callable[[np.ndarray], object] = lambda _: None
) -> Iterator[dict[str, np.ndarray]]:
    """Batches of impressions of the valid span, as the ranker takes them; `clicked` is handed over beside them."""
    ingest, length = stages.ingest.path, stages.history_length
    for batch in impression_batches(ingest, "valid", history_length=length, batch_size=BATCH):
        take_clicked(batch["clicked"].numpy())
        yield {name: batch[name].numpy() for name in schema.EXAMPLE_FEATURES}


def _largest(difference: np.ndarray) -> float:
    """NaN stays NaN, and passes no comparison."""
    return float(np.abs(difference).max(initial=0.0))
