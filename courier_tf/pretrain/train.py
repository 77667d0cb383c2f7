"""Pre-training: an encoder learns the objective from the page views of the train span."""

import functools
import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf.pretrain import data
from courier_tf.pretrain.encoder_files import (
    AnyEncoder,
)
from courier_tf.pretrain.encoder_stage import write_encoder
from courier_tf.pretrain.fit import Budget, fit, new_encoder, slow_backbone
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.objectives.objective import Objective
from courier_tf.pretrain.objectives.registry import NO_TRAINING, OBJECTIVES
from courier_tf.pretrain.photo_store import FeatureStore
from courier_tf.pretrain.training_data import TrainingData
from courier_tf.settings import PretrainSettings
from courier_tf.training import SlowPart, TrainingError, precision_policy
from courier_tf.workdir import artefacts
from courier_tf.workdir.leakage import require_past_histories, require_past_page_views
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import INGEST
from courier_tf.workers.workers import ALONE, Workers

LOG = logging.getLogger(__name__)


def pretrain(
    ingest: Path,
    start: Path | None,
    target: Path,
    settings: PretrainSettings,
    seed: int,
    made_by: MadeBy,
    workers: Workers = ALONE,
) -> None:
    """Trains the encoder in `start` with the objective of the settings, on the train span's page views.

    With the objective `base` the encoder stays as it is.

    Args:
        ingest: directory of the ingest stage.
        start: directory of supervised pre-training or of a previous pre-training, or a file with weights of the
            backbone. None: the weights that come with the backbone's name.
        target: directory to write; an interrupted run goes on from its last checkpoint.
        settings: those of pre-training.
        seed: decides the weights and the order.
        made_by: what determines the result.
        workers: those that train together.

    Raises:
        TrainingError: fewer page views with a click (that fulfils `pretrain_where`) and a history than a batch, or
            `pretrain_where` names a column that items do not have.
        LeakageError: a history holds what comes later.
    """
    known = training_data(ingest, settings)
    new = functools.partial(new_encoder, settings, start)
    with artefacts.write_aside(target, made_by, keep_partial=True, writes=workers.is_chief) as draft:
        slow = functools.partial(slow_backbone, settings, start)
        encoder, objective = learn(known, new, draft.path, settings, seed, slow, workers)
        if workers.is_chief:
            draft.facts = write_encoder(encoder, known, draft.path, objective)


def training_data(ingest: Path, settings: PretrainSettings) -> TrainingData:
    """The catalogue, after its histories have been checked."""
    ties = artefacts.read(ingest, INGEST).facts.history_ties
    require_past_page_views(ingest, log_order=ties == "log_order")
    require_past_histories(ingest, ("train", "valid"))  # The score reads the impressions of valid.
    column = (settings.pretrain_where or "").partition("=")[0]
    known = TrainingData.read(ingest, {column} if column else set())
    known.require_different_photos()
    return known


def learn(
    known: TrainingData,
    new: Callable[[], AnyEncoder],
    partial: Path,
    settings: PretrainSettings,
    seed: int,
    slow: Callable[[AnyEncoder], SlowPart | None] | None = None,
    workers: Workers = ALONE,
) -> tuple[AnyEncoder, Objective | None]:
    """Trains a new encoder with the objective of the settings. With the objective `base` it stays as it is."""
    if settings.objective == NO_TRAINING:
        with precision_policy(settings.precision):
            return new(), None
    teaching = known.where(settings.pretrain_where) if settings.pretrain_where else None
    rows = _rows(known, teaching, settings)
    objective_class = OBJECTIVES[settings.objective]
    attributes = objective_class.attributes(settings, known)

    def build(encoder: AnyEncoder) -> CourierModel:
        objective = objective_class.from_settings(settings, known)
        return CourierModel(encoder, objective, settings.weight_decay, chunk=settings.encode_chunk, seed=seed)

    def batches(share: int, skip: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        return data.page_view_batches(
            known.ingest,
            known.store,
            history_length=settings.history_length,
            page_view_size=known.facts.page_view_size,
            batch_rows=share,
            seed=seed,
            inline=known.facts.inline_photos and not isinstance(known.store, FeatureStore),
            attributes=attributes,
            teaching=teaching,
            skip_batches=skip,
            shard=(context.input_pipeline_id, context.num_input_pipelines),
        )

    budget = Budget(
        steps_of(settings, rows),
        settings.pretrain_learning_rate,
        settings.pretrain_batch_rows,
        "pretrain_batch_rows",
        "--pretrain-learning-rate",
    )
    if budget.steps < settings.pretrain_steps:
        LOG.info("[pretrain] %d steps: %s passes over %d rows", budget.steps, settings.pretrain_passes, rows)
    model = fit(partial, settings, seed, new, build, batches, budget, known.sample(), slow, workers)
    return model.encoder, model.objective


def steps_of(settings: PretrainSettings, rows: int) -> int:
    """Steps of the objective: those of the settings, or fewer where they make too many passes over the rows.

    >>> steps_of(PretrainSettings(pretrain_steps=400, pretrain_batch_rows=512, pretrain_passes=4), 18_000)
    141
    """
    if not settings.pretrain_passes:
        return settings.pretrain_steps
    return min(settings.pretrain_steps, math.ceil(settings.pretrain_passes * rows / settings.pretrain_batch_rows))


def _rows(known: TrainingData, teaching: np.ndarray | None, settings: PretrainSettings) -> int:
    """Number of pre-training rows. Refuses fewer of them than a batch, and fewer than two photos.

    Raises:
        TrainingError: names the numbers.
    """
    rows = known.facts.counts.get("pretraining_rows_train", 0)
    if teaching is not None:
        rows = data.teaching_rows(known.ingest, known.store, teaching)
    if rows < settings.pretrain_batch_rows:
        clicked = f"a click on an item with {settings.pretrain_where}" if settings.pretrain_where else "a click"
        raise TrainingError(
            f"the train span makes {rows} pre-training rows of page views with {clicked} and a history, fewer than "
            f"pretrain_batch_rows={settings.pretrain_batch_rows}"
        )
    photos = int(known.trainable.sum())
    if photos < 2:
        raise TrainingError(f"of the items of the train span {photos} have a photo: there is nothing to learn from")
    return rows
