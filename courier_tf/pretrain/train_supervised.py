"""Supervised pre-training, on the catalogue's columns or on the features of a teacher."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from courier_tf.features.files import FeatureFiles
from courier_tf.features.sources import Pixels, sources_of
from courier_tf.pretrain import data
from courier_tf.pretrain.encoder_files import AnyEncoder
from courier_tf.pretrain.encoder_stage import write_encoder
from courier_tf.pretrain.fit import Budget, fit, new_encoder, scratch_backbone
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.objectives.distillation import TEACHER, Distillation
from courier_tf.pretrain.objectives.objective import Objective
from courier_tf.pretrain.objectives.supervised import Supervised, catalogue_codes
from courier_tf.pretrain.score import embed_photos, held_out_score
from courier_tf.pretrain.train_heads import new_head, told_score
from courier_tf.pretrain.training_data import TrainingData
from courier_tf.settings import PretrainSettings
from courier_tf.training import TrainingError
from courier_tf.workdir import artefacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workers.workers import ALONE, Workers

LOG = logging.getLogger(__name__)


def pretrain_supervised(
    ingest: Path,
    features: Mapping[str, Path] | None,
    target: Path,
    settings: PretrainSettings,
    seed: int,
    made_by: MadeBy,
    workers: Workers = ALONE,
) -> None:
    """Trains a new encoder on the catalogue's columns (objective `supervised`), with train-span items only.

    With a teacher it learns the teacher's features of the photos instead (`Distillation`).

    Args:
        ingest: directory of the ingest stage.
        features: source of the teacher -> its directory in the features stage, and that of `pixels`; None without a
            teacher.
        target: directory to write; an interrupted run goes on from its last checkpoint.
        settings: those of pre-training.
        seed: decides the weights and the order.
        made_by: what determines the result.
        workers: those that train together.

    Raises:
        TrainingError: the catalogue has no column with two values, fewer photos than a batch, or one photo for all.
    """
    known = TrainingData.read(ingest)
    known.require_different_photos()
    numbers = np.flatnonzero(known.trainable) + 1
    if len(numbers) < settings.supervised_batch_size:
        raise TrainingError(
            f"the train span has {len(numbers)} photos, fewer than "
            f"supervised_batch_size={settings.supervised_batch_size}"
        )
    lesson = _columns(known) if features is None else _teacher(known, features, settings)
    sample = known.sample()
    # A new encoder has to learn as a whole. How much of it learns later is the objective's matter.
    whole = dataclasses.replace(settings, trainable="all")

    def build(encoder: AnyEncoder) -> CourierModel:
        return CourierModel(encoder, lesson.objective(), weight_decay=0.0, chunk=settings.encode_chunk, seed=seed)

    def batches(share: int, skip: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        return data.photo_batches(
            known.store,
            numbers,
            lesson.attributes,
            batch_size=share,
            seed=seed,
            skip_batches=skip,
            shard=(context.input_pipeline_id, context.num_input_pipelines),
        )

    with artefacts.write_aside(target, made_by, keep_partial=True, writes=workers.is_chief) as draft:
        budget = Budget(
            settings.supervised_steps,
            settings.supervised_learning_rate,
            settings.supervised_batch_size,
            "supervised_batch_size",
            "--supervised-learning-rate",
        )
        model = fit(
            draft.path,
            settings,
            seed,
            functools.partial(new_encoder, whole, None, scratch_backbone(whole, seed, sample)),
            build,
            batches,
            budget,
            sample,
            workers=workers,
        )
        if not workers.is_chief:
            return
        draft.facts = facts = dataclasses.replace(write_encoder(model.encoder, known, draft.path), **lesson.facts)
    if facts.teacher_held_out:
        scores = told_score(facts.held_out), told_score(facts.teacher_held_out)
        LOG.info("[supervised] held-out score %s, that of the teacher %s", *scores)


class Lesson(NamedTuple):
    """What supervised pre-training learns from."""

    objective: Callable[[], Objective]
    attributes: dict[str, np.ndarray]  # As of `Objective.attributes`.
    facts: dict[str, Any]  # Fields of the stage's facts.


def _columns(known: TrainingData) -> Lesson:
    """The catalogue's columns."""
    sizes, codes = catalogue_codes(known)
    LOG.info("[supervised] learns the columns %s", ", ".join(sizes))
    return Lesson(lambda: Supervised(list(sizes.values())), {"codes": codes}, {"columns": sizes})


def _teacher(known: TrainingData, features: Mapping[str, Path], settings: PretrainSettings) -> Lesson:
    """The features of the photos by the teacher, as a head on them starts, and their own held-out score."""
    assert settings.teacher is not None, "there are features of it"
    LOG.info("[supervised] imitates the features %s", settings.teacher)
    files = {source: FeatureFiles(directory) for source, directory in features.items()}
    sources = [files[source] for source in sources_of(settings.teacher, "teacher")]
    of_teacher = known.with_features(sources, files[Pixels.source], views=False)
    head = new_head(settings, of_teacher, sources, None)
    scores = held_out_score(head, known.ingest, known.items, of_teacher.store, known.facts.repeat_columns)
    attributes = {TEACHER: embed_photos(head, of_teacher.store.inputs)}
    return Lesson(Distillation, attributes, {"teacher": settings.teacher, "teacher_held_out": scores})
