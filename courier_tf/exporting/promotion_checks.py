"""What must hold before new versions become `stable`."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from courier_tf import schema
from courier_tf.exporting.comparison import differences, valid_batches
from courier_tf.exporting.finished_stages import Stages
from courier_tf.ranking.metrics import auc
from courier_tf.settings import PromotionSettings
from courier_tf.workdir import artefacts
from serving.bundle import warmup
from serving.bundle.graph_model import GraphModel
from serving.bundle.stock_ops import StockOpsError, require_stock_ops
from serving.bundle.warmup import WarmUpError

MOST_BATCHES = 64  # Of impressions, for AUC and calibration.


class PromotionError(ValueError):
    """The newest versions must not be promoted; the message lists every reason."""


def measure(
    stages: Stages,
    models: Path,
    newest: Mapping[str, int],
    stable: Mapping[str, int] | None,
    tolerances: PromotionSettings,
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
        PromotionError: with all reasons.
    """
    directories = {model: models / model / str(newest[model]) for model in schema.SERVED_MODELS if model in newest}
    missing = sorted(set(schema.SERVED_MODELS) - set(directories))
    if missing:
        raise PromotionError(f"{models} holds no version of {', '.join(missing)}. Run 'courier export' first.")
    reasons = [*_foreign_parts(stages, directories)]
    try:
        require_stock_ops(list(directories.values()))
    except StockOpsError as error:
        # What cannot be loaded cannot be measured.
        raise PromotionError("\n- ".join(["not promoted:", *reasons, str(error)])) from error
    loaded = {model: GraphModel(directory) for model, directory in directories.items()}
    for model, directory in directories.items():
        try:
            warmup.replay(directory, loaded[model])
        except WarmUpError as error:
            reasons.append(str(error))
    reasons += differences(loaded, stages)
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
        raise PromotionError("\n- ".join(["not promoted:", *reasons]))
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
    for what, stage in (("codebook", stages.cluster), ("embeddings", stages.embed)):
        if stage.facts["encoder"] != stages.encoder:
            reasons.append(
                f"encoder and {what} do not belong together: {stage.path} was made with the encoder "
                f"{stage.facts['encoder']}, not with {stages.encoder}"
            )
    return reasons


def _quality(served: GraphModel, stages: Stages) -> dict[str, float]:
    clicked, probability = [], []
    for batch in itertools.islice(valid_batches(stages, None, clicked.append), MOST_BATCHES):
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
