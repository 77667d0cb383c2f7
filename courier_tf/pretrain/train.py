"""The pre-training stages: supervised pre-training on catalogue columns or a teacher, and the objective on page views.

The objective trains an encoder of photos, or heads on the features of frozen networks.
"""

import dataclasses
import functools
import logging
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from courier_tf.features.files import FeatureFiles
from courier_tf.features.sources import JOIN, Pixels, sources_of
from courier_tf.pretrain import data
from courier_tf.pretrain.encoder_files import (
    AnyEncoder,
    fingerprint_of_encoder,
    load_weights,
    save_encoder,
    save_extractor,
)
from courier_tf.pretrain.fit import ENCODER_FOLDER, Budget, fit, new_encoder, slow_backbone
from courier_tf.pretrain.frozen_encoder import export_embedder
from courier_tf.pretrain.head_encoder import HeadEncoder, HeadOnStandardised
from courier_tf.pretrain.impression_scores import SCORES_FILE
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.objectives.distillation import TEACHER, Distillation
from courier_tf.pretrain.objectives.objective import Objective
from courier_tf.pretrain.objectives.registry import NO_TRAINING, OBJECTIVES, augments
from courier_tf.pretrain.objectives.supervised import Supervised, catalogue_codes
from courier_tf.pretrain.photo_store import FeatureStore
from courier_tf.pretrain.score import embed_photos, held_out_score
from courier_tf.pretrain.training_data import TrainingData
from courier_tf.settings import PretrainSettings
from courier_tf.training import SlowPart, TrainingError, precision_policy
from courier_tf.workdir import artefacts
from courier_tf.workdir.facts import EncoderFacts
from courier_tf.workdir.leakage import require_past_histories, require_past_page_views
from courier_tf.workdir.stages import INGEST

LOG = logging.getLogger(__name__)
EMBEDDER_FOLDER = "embedder"  # SavedModel, for the embed stage.
CANDIDATES_FOLDER = "candidates"  # In the unfinished stage: a folder for each candidate.


def pretrain_supervised(
    ingest: Path,
    features: Mapping[str, Path] | None,
    target: Path,
    settings: PretrainSettings,
    seed: int,
    made_by: artefacts.MadeBy,
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

    def build(encoder: AnyEncoder) -> CourierModel:
        return CourierModel(encoder, lesson.objective(), weight_decay=0.0, chunk=settings.encode_chunk, seed=seed)

    def batches(share: int, skip: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        share_of_worker = numbers[context.input_pipeline_id :: context.num_input_pipelines]
        return data.photo_batches(
            known.store, share_of_worker, lesson.attributes, batch_size=share, seed=seed, skip_batches=skip
        )

    with artefacts.write_aside(target, made_by, keep_partial=True) as draft:
        budget = Budget(
            settings.supervised_steps,
            settings.supervised_learning_rate,
            settings.supervised_batch_size,
            "supervised_batch_size",
        )
        model = fit(
            draft.path,
            settings,
            seed,
            # A new encoder has to learn as a whole. How much of it learns later is the objective's matter.
            functools.partial(new_encoder, dataclasses.replace(settings, trainable="all"), None),
            build,
            batches,
            budget,
            known.sample(),
        )
        draft.facts = facts = dataclasses.replace(write_encoder(model.encoder, known, draft.path), **lesson.facts)
    if facts.teacher_held_out:
        scores = 100 * _choice(facts.held_out), 100 * _choice(facts.teacher_held_out)
        LOG.info("[supervised] held-out score %.2f on valid, that of the teacher %.2f", *scores)


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
    head = _new_head(settings, of_teacher, sources, None)
    scores = held_out_score(head, known.ingest, known.items, of_teacher.store, known.facts.repeat_columns)
    attributes = {TEACHER: embed_photos(head, of_teacher.store.inputs)}
    return Lesson(Distillation, attributes, {"teacher": settings.teacher, "teacher_held_out": scores})


def pretrain(
    ingest: Path, start: Path | None, target: Path, settings: PretrainSettings, seed: int, made_by: artefacts.MadeBy
) -> None:
    """Trains the encoder in `start` with the objective of the settings, on the train span's page views.

    With the objective `base` the encoder stays as it is.

    Args:
        ingest: directory of the ingest stage.
        start: directory of supervised pre-training or of a previous pre-training, or a file with weights of the
            backbone. None: the weights that come with the backbone's name.
        target, settings, seed, made_by: as in `pretrain_supervised`.

    Raises:
        TrainingError: fewer page views with a click (that fulfils `pretrain_where`) and a history than a batch, or
            `pretrain_where` names a column that items do not have.
        LeakageError: a history holds what comes later.
    """
    known = _training_data(ingest, settings)
    new = functools.partial(new_encoder, settings, start)
    with artefacts.write_aside(target, made_by, keep_partial=True) as draft:
        slow = functools.partial(slow_backbone, settings, start)
        encoder, objective = _learn(known, new, draft.path, settings, seed, slow)
        draft.facts = write_encoder(encoder, known, draft.path, objective)


def pretrain_heads(
    ingest: Path,
    features: Mapping[str, Path],
    candidates: Sequence[Sequence[str]],
    previous: Path | None,
    target: Path,
    settings: PretrainSettings,
    seed: int,
    made_by: artefacts.MadeBy,
) -> None:
    """Trains a head on the features of each candidate, and keeps the one with the best held-out score on valid.

    Args:
        ingest: directory of the ingest stage.
        features: source -> its directory in the features stage; `pixels` is among them.
        candidates: sources of each candidate.
        previous: directory of a previous pre-training to start from, whose sources are the only candidate.
        target, settings, seed, made_by: as in `pretrain_supervised`.

    Raises:
        TrainingError, LeakageError: as `pretrain`.
    """
    photos = _training_data(ingest, settings)
    files = {source: FeatureFiles(directory) for source, directory in features.items()}
    scores: dict[str, dict[str, float | None]] = {}
    best: tuple[float, Path, EncoderFacts] | None = None
    with artefacts.write_aside(target, made_by, keep_partial=True) as draft:
        for sources in candidates:
            name = JOIN.join(sources)
            of_sources = [files[source] for source in sources]
            known = photos.with_features(of_sources, files[Pixels.source], augments(settings))
            head = _new_head(settings, known, of_sources, previous)
            folder = draft.path / CANDIDATES_FOLDER / str(len(scores))
            folder.mkdir(parents=True, exist_ok=True)
            standardised, new = known.standardised_by(head), functools.partial(_on_standardised, head)
            trained, objective = _learn(standardised, new, folder, settings, seed)
            head.set_weights(trained.get_weights())
            facts = write_encoder(head, known, folder, objective)
            scores[name] = dict(facts.held_out)
            value = _choice(facts.held_out)
            LOG.info("[pretrain] features %s: held-out score %.2f on valid", name, 100 * value)
            if best is None or value > best[0]:
                best = value, folder, facts
        assert best is not None, "there is at least one candidate"
        for part in best[1].iterdir():
            place = draft.path / part.name
            if place.exists():  # A run that was killed here before.
                shutil.rmtree(place)
            part.rename(place)
        shutil.rmtree(draft.path / CANDIDATES_FOLDER)
        draft.facts = dataclasses.replace(best[2], candidates=scores)
    if len(scores) > 1:
        LOG.info("[pretrain] keeps the features %s", JOIN.join(best[2].features))


def _choice(held_out: Mapping[str, float | None]) -> float:
    """The figure by which candidates are compared: `mean_new_to_user`, else `mean`, else 0.5."""
    for name in ("mean_new_to_user", "mean"):
        value = held_out[name]
        if value is not None:
            return value
    return 0.5


def _new_head(
    settings: PretrainSettings, known: TrainingData, sources: Sequence[FeatureFiles], previous: Path | None
) -> HeadEncoder:
    """A head before training: that of a previous pre-training, or a new one, standardised by the train span."""
    widths = [width for source in sources for width in source.facts.parts]
    names = [source.facts.source for source in sources]
    head = HeadEncoder(names, widths, settings.embedding_dim, settings.head, settings.drop_path)
    if previous:
        load_weights(head, previous / ENCODER_FOLDER)
    else:
        head.fit_to(known.store.inputs_of(np.flatnonzero(known.trainable) + 1))
    return head


def _on_standardised(head: HeadEncoder) -> HeadOnStandardised:
    """A copy of a head that takes standardised features."""
    copy = HeadOnStandardised(**head.get_config())
    copy.set_weights(head.get_weights())
    return copy


def _training_data(ingest: Path, settings: PretrainSettings) -> TrainingData:
    """The catalogue, after its histories have been checked."""
    ties = artefacts.read(ingest, INGEST).facts.history_ties
    require_past_page_views(ingest, log_order=ties == "log_order")
    require_past_histories(ingest, ("train", "valid"))  # The score reads the impressions of valid.
    column = (settings.pretrain_where or "").partition("=")[0]
    known = TrainingData.read(ingest, {column} if column else set())
    known.require_different_photos()
    return known


def _learn(
    known: TrainingData,
    new: Callable[[], AnyEncoder],
    partial: Path,
    settings: PretrainSettings,
    seed: int,
    slow: Callable[[AnyEncoder], SlowPart | None] | None = None,
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
    )
    if budget.steps < settings.pretrain_steps:
        LOG.info("[pretrain] %d steps: %s passes over %d rows", budget.steps, settings.pretrain_passes, rows)
    model = fit(partial, settings, seed, new, build, batches, budget, known.sample(), slow)
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


def write_encoder(
    encoder: AnyEncoder, known: TrainingData, directory: Path, objective: Objective | None = None
) -> EncoderFacts:
    """Fills the directory of a pretrain stage.

    Args:
        encoder: trained.
        known: the data it was trained on.
        directory: to fill with the encoder's files, its SavedModel and the scores of each impression.
        objective: an objective whose own similarity is measured, too.

    Returns:
        The facts of the stage, among them the held-out score.
    """
    folder, size = directory / ENCODER_FOLDER, known.facts.image_size
    save_encoder(encoder, folder)
    extractor = save_extractor(encoder, size, folder) if isinstance(encoder, HeadEncoder) else None
    export_embedder(folder, size, directory / EMBEDDER_FOLDER)
    return EncoderFacts(
        encoder=fingerprint_of_encoder(folder, size, extractor),
        embedding_dim=encoder.embedding_dim,
        image_size=size,
        valid_from_seconds=known.facts.valid_from_seconds,
        held_out=held_out_score(
            encoder,
            known.ingest,
            known.items,
            known.store,
            known.facts.repeat_columns,
            objective,
            scores_file=directory / SCORES_FILE,
        ),
        features=encoder.sources if isinstance(encoder, HeadEncoder) else (),
    )
