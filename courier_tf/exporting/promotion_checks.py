"""Promotion checks: what must hold before new versions become `stable`."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import tensorflow as tf

from courier_tf.exporting import registry
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.served_model import ServedModel
from courier_tf.exporting.versions import VersionError, require_undamaged, version_directory
from courier_tf.ranking.soundness import LEAST_EFFECTIVE_RANK, MOST_PAIRS_COSINE, is_collapsed, spread_of
from courier_tf.settings import PromotionSettings
from serving.bundle import warmup
from serving.bundle.graph_model import GraphModel
from serving.bundle.stock_ops import StockOpsError, require_stock_ops
from serving.bundle.warmup import WarmUpError

LOG = logging.getLogger(__name__)
ENCODER = "encoder"  # Among the figures of a release.
SPREAD = ("effective_rank", "neighbours_cosine", "pairs_cosine")  # Of `ClusterFacts.quality`.


class PromotionError(ValueError):
    """The newest versions must not be promoted; the message lists every reason."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__("\n- ".join(["not promoted:", *reasons]))


class Measured(NamedTuple):
    """What the checks tell of versions that may be promoted.

    Attributes:
        figures: by model, the figures of its `quality`, and with the prefix `stable_` those of the stable version.
            Under `ENCODER` stands how far the embeddings are spread.
        accepted: check -> the fault that it found, and that was accepted by name.
    """

    figures: dict[str, dict[str, float]]
    accepted: dict[str, str]


def measure(
    stages: FinishedStages,
    models: Path,
    newest: Mapping[str, int],
    stable: Mapping[str, int] | None,
    tolerances: PromotionSettings,
) -> Measured:
    """Checks the newest versions against what was trained and against the stable ones.

    Args:
        stages: that were exported.
        models: directory of all models.
        newest: model -> version to be promoted.
        stable: model -> version that is served now; None if none is.
        tolerances: of the comparison with `stable`, and the faults that are accepted.

    Raises:
        PromotionError: with all reasons.
    """
    missing = sorted(set(registry.model_names()) - set(newest))
    if missing:
        raise PromotionError([f"{models} holds no version of {', '.join(missing)}. Run 'courier export' first."])
    directories = {name: version_directory(models, name, version) for name, version in newest.items()}
    reasons = stages.mismatches()
    damaged = []
    for model in registry.SERVED_MODELS:
        try:
            reasons += _foreign_inputs(model, stages, directories[model.name])
        except VersionError as error:
            damaged.append(str(error))
    if damaged:
        raise PromotionError(damaged + reasons)  # What is damaged must not be loaded.
    try:
        require_stock_ops(list(directories.values()))
    except StockOpsError as error:
        raise PromotionError([*reasons, str(error)]) from error  # What cannot be loaded cannot be measured.
    spread = {name: value for name in SPREAD if (value := stages.cluster.facts.quality.get(name)) is not None}
    figures, faults = {ENCODER: spread} if spread else {}, _collapse(stages)
    for model in registry.SERVED_MODELS:
        directory, served = directories[model.name], GraphModel(directories[model.name])
        reasons += [*_warm_up_errors(directory, served), *_differences(model, served, stages)]
        if quality := model.quality(served, stages):
            before = _stable_quality(model, models, (stable or {}).get(model.name), stages)
            reasons += model.objections(quality, before, tolerances)
            faults |= model.faults(quality)
            figures[model.name] = quality | {f"stable_{name}": value for name, value in (before or {}).items()}
    names: tuple[str, ...] = tolerances.accept
    accepted = {name: reason for name, reason in faults.items() if name in names}
    reasons += [f"{reason} (--accept {name})" for name, reason in faults.items() if name not in accepted]
    if reasons:
        raise PromotionError(reasons)
    for name, reason in accepted.items():
        LOG.warning("[export] promoted although this check failed, as --accept %s says: %s", name, reason)
    return Measured(figures, accepted)


def _collapse(stages: FinishedStages) -> dict[str, str]:
    """The fault of an encoder that gives all photos nearly the same embedding."""
    facts = stages.cluster.facts
    if not is_collapsed(facts.quality, facts.embedding_dim):
        return {}
    return {
        "collapse": f"the encoder has collapsed: {spread_of(facts.quality)}; the limits are an effective rank of "
        f"{LEAST_EFFECTIVE_RANK:g} and a cosine of all pairs of {MOST_PAIRS_COSINE:g}"
    }


def _foreign_inputs(model: ServedModel, stages: FinishedStages, version: Path) -> list[str]:
    """Inputs of a version that are not those of the stages.

    Raises:
        VersionError: its files are damaged.
    """
    inputs = require_undamaged(version).inputs
    return [
        f"{version} belongs to the {name} {inputs.get(name)}, not to {fingerprint}: run 'courier export' again"
        for name, fingerprint in model.inputs(stages).items()
        if inputs.get(name) != fingerprint
    ]


def _warm_up_errors(version: Path, served: GraphModel) -> list[str]:
    try:
        warmup.replay(version, served)
    except WarmUpError as error:
        return [str(error)]
    return []


def _differences(model: ServedModel, served: GraphModel, stages: FinishedStages) -> list[str]:
    try:
        return model.differences(served, stages)
    except (tf.errors.OpError, KeyError, ValueError) as error:
        return [f"{model.name} cannot be compared with what was trained: {error!r}"]


def _stable_quality(
    model: ServedModel, models: Path, version: int | None, stages: FinishedStages
) -> dict[str, float] | None:
    """The figures of the stable version; None where there is none, or where its files are damaged."""
    if version is None:
        return None
    directory = version_directory(models, model.name, version)
    try:
        require_undamaged(directory)
    except VersionError as error:
        LOG.warning("[export %s] nothing is compared with the stable version: %s", model.name, error)
        return None
    return model.quality(GraphModel(directory), stages)
