"""The two pre-training stages: the warm-up on catalogue columns, and COURIER on page views."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf import artefacts, records
from courier_tf.pretrain import data
from courier_tf.pretrain.embedder import export_embedder
from courier_tf.pretrain.encoder import Encoder, load_encoder, load_weights, save_encoder
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.score import similarity_auc
from courier_tf.pretrain.supervised import SupervisedModel, column_codes
from courier_tf.settings import PretrainSettings
from courier_tf.training import (
    Checkpoints,
    TrainingError,
    mirrored_strategy,
    precision_policy,
    progress,
    rows_per_replica,
)

keras = tf.keras

ENCODER_FOLDER = "encoder"  # Weights and config, for a further training.
EMBEDDER_FOLDER = "embedder"  # SavedModel, for the embed stage.


def warm_up(ingest: Path, target: Path, settings: PretrainSettings, seed: int, made_by: artefacts.MadeBy) -> None:
    """Trains a new encoder on the catalogue's columns (objective `supervised`), with train-span items only.

    Args:
        ingest: directory of the ingest stage.
        target: directory to write; an interrupted run goes on from its last checkpoint.
        settings: those of pre-training.
        seed: of weights and order.
        made_by: what determines the result.

    Raises:
        TrainingError: the catalogue has no column with two values, or fewer photos than a batch.
    """
    facts = artefacts.read(ingest, "ingest").facts
    items = records.read_items(ingest, facts["item_columns"])
    store = data.PhotoStore.of(items, facts["image_size"])
    train = items.in_train_span(facts["valid_from_seconds"]) & items.has_photo
    codes = {column: column_codes(values, train) for column, values in items.columns.items()}
    usable = {column: code for column, code in codes.items() if code[1] > 1}
    if not usable:
        raise TrainingError(f"none of the item columns {list(codes)} has two values in the train span to learn from")
    numbers = np.flatnonzero(train) + 1
    if len(numbers) < settings.warmup_batch_size:
        raise TrainingError(
            f"the train span has {len(numbers)} photos, fewer than warmup_batch_size={settings.warmup_batch_size}"
        )
    labels = np.stack([code for code, _ in usable.values()], axis=1)[train]

    def build(encoder: Encoder) -> SupervisedModel:
        return SupervisedModel(encoder, [size for _, size in usable.values()])

    def batches(share: int, skip: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        own = slice(context.input_pipeline_id, None, context.num_input_pipelines)
        return data.labelled_photos(store, numbers[own], labels[own], batch_size=share, seed=seed, skip_batches=skip)

    with artefacts.write_aside(target, made_by, keep_partial=True) as (partial, found):
        encoder = _fit(
            partial, settings, seed, None, build, batches, settings.warmup_steps, settings.warmup_learning_rate,
            ("warmup_batch_size", settings.warmup_batch_size),
        )  # fmt: skip
        found["columns"] = {column: size for column, (_, size) in usable.items()}
        _finish(encoder, ingest, store, facts, partial, found)


def pretrain(
    ingest: Path, start: Path, target: Path, settings: PretrainSettings, seed: int, made_by: artefacts.MadeBy
) -> None:
    """Trains the encoder found in `start` with the COURIER objective on the train span's page views.

    With the objective `supervised` the encoder stays as the warm-up left it.

    Args:
        ingest: directory of the ingest stage.
        start: directory of a warm-up or of a former pre-training.
        target, settings, seed, made_by: as in `warm_up`.
    """
    facts = artefacts.read(ingest, "ingest").facts
    items = records.read_items(ingest, facts["item_columns"])
    store = data.PhotoStore.of(items, facts["image_size"])

    def build(encoder: Encoder) -> CourierModel:
        return CourierModel(encoder, settings.reconstruction, settings.temperature, settings.weight_decay)

    def batches(share: int, skip: int, context: tf.distribute.InputContext) -> tf.data.Dataset:
        return data.page_view_batches(
            ingest,
            store,
            history_length=settings.history_length,
            page_view_size=facts["page_view_size"],
            batch_rows=share,
            seed=seed,
            skip_batches=skip,
            shard=(context.input_pipeline_id, context.num_input_pipelines),
        )

    with artefacts.write_aside(target, made_by, keep_partial=True) as (partial, found):
        if settings.objective == "supervised":
            with precision_policy(settings.precision):
                encoder = load_encoder(start / ENCODER_FOLDER)
        else:
            encoder = _fit(
                partial, settings, seed, start / ENCODER_FOLDER, build, batches, settings.pretrain_steps,
                settings.pretrain_learning_rate, ("pretrain_batch_rows", settings.pretrain_batch_rows),
            )  # fmt: skip
        _finish(encoder, ingest, store, facts, partial, found)


def _fit(
    partial: Path,
    settings: PretrainSettings,
    seed: int,
    start: Path | None,
    build: Callable[[Encoder], keras.Model],
    batches: Callable[[int, int, tf.distribute.InputContext], tf.data.Dataset],
    steps: int,
    learning_rate: float,
    batch: tuple[str, int],
) -> Encoder:
    """Fits one model under MirroredStrategy from its last checkpoint on; an epoch is `checkpoint_every` steps."""
    keras.utils.set_random_seed(seed)
    strategy = mirrored_strategy(settings.replicas)
    share = rows_per_replica(batch[1], strategy, batch[0])
    epoch_steps = min(settings.checkpoint_every, steps)
    epochs = -(-steps // epoch_steps)
    with strategy.scope(), precision_policy(settings.precision):
        encoder = Encoder(settings.backbone, settings.embedding_dim, settings.drop_path)
        if start:
            load_weights(encoder, start)
        model = build(encoder)
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, epochs * epoch_steps, alpha=0.05, warmup_target=learning_rate, warmup_steps=max(steps // 10, 1)
        )
        model.compile(keras.optimizers.Adam(schedule))
        checkpoints = Checkpoints(model, partial / "checkpoints")
    done = checkpoints.restore()

    def replica_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        seen = done * epoch_steps * strategy.num_replicas_in_sync // context.num_input_pipelines
        return batches(share, seen, context)

    dataset = strategy.distribute_datasets_from_function(replica_batches)
    logs = partial / "logs"
    logs.mkdir(exist_ok=True)
    watchers = [
        keras.callbacks.CSVLogger(str(logs / "steps.csv"), append=True),
        keras.callbacks.TensorBoard(str(logs), write_graph=False),
    ]
    if done < epochs:
        model.fit(
            dataset,
            epochs=epochs,
            initial_epoch=done,
            steps_per_epoch=epoch_steps,
            callbacks=[*watchers, checkpoints],
            verbose=progress(),
        )
    return encoder


def _finish(encoder: Encoder, ingest: Path, store: data.PhotoStore, facts: dict, partial: Path, found: dict) -> None:
    """Writes the encoder and its SavedModel, and the held-out score into the facts."""
    save_encoder(encoder, partial / ENCODER_FOLDER)
    export_embedder(partial / ENCODER_FOLDER, facts["image_size"], partial / EMBEDDER_FOLDER)
    found["image_size"] = facts["image_size"]
    found["embedding_dim"] = encoder.embedding_dim
    found["similarity_auc"] = similarity_auc(encoder, ingest, store)
