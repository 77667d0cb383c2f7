"""How one model is fitted: start, strategy, schedule, checkpoints, logs; the same for every objective."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from courier_tf.backbone.checkpoints import load_checkpoint
from courier_tf.pretrain.encoder import Encoder, load_weights
from courier_tf.pretrain.watching import Throughput
from courier_tf.settings import PretrainSettings
from courier_tf.training import (
    Checkpoints,
    StopAfter,
    mirrored_strategy,
    precision_policy,
    progress,
    rows_per_replica,
)

keras = tf.keras

ENCODER_FOLDER = "encoder"  # Of a stage's directory: weights and config, for a further training.


def fit(
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
    """Fits one model under MirroredStrategy, from its last checkpoint on; an epoch is `checkpoint_every` steps.

    Args:
        partial: directory of the unfinished stage, for checkpoints and logs.
        settings: those of pre-training.
        seed: of weights and draws.
        start: what the encoder starts from, see `new_encoder`.
        build: encoder -> model, called in the strategy's scope.
        batches: (rows of a replica's batch, batches to skip, input context) -> endless data set.
        steps: of the optimiser.
        learning_rate: the peak; a tenth of the steps rises to it, the rest falls by a cosine.
        batch: (name of the setting, rows of the global batch).

    Returns:
        The trained encoder.
    """
    keras.utils.set_random_seed(seed)
    strategy = mirrored_strategy(settings.replicas)
    share = rows_per_replica(batch[1], strategy, batch[0])
    epoch_steps = min(settings.checkpoint_every, steps)
    epochs = -(-steps // epoch_steps)
    with strategy.scope(), precision_policy(settings.precision):
        encoder = new_encoder(settings, start)
        model = build(encoder)
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, steps, alpha=0.05, warmup_target=learning_rate, warmup_steps=max(steps // 10, 1)
        )
        model.compile(keras.optimizers.Adam(schedule))
        model.optimizer.build(model.trainable_variables)  # So that a checkpoint finds its slots.
        checkpoints = Checkpoints(model, partial / "checkpoints")
    done = checkpoints.restore()

    def replica_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        seen = done * strategy.num_replicas_in_sync // context.num_input_pipelines
        return batches(share, seen, context)

    if done < steps:
        logs = partial / "logs"
        logs.mkdir(exist_ok=True)
        model.fit(
            strategy.distribute_datasets_from_function(replica_batches),
            epochs=epochs,
            initial_epoch=done // epoch_steps,
            steps_per_epoch=epoch_steps,
            callbacks=[
                Throughput(),
                keras.callbacks.CSVLogger(str(logs / "steps.csv"), append=True),
                keras.callbacks.TensorBoard(str(logs), write_graph=False),
                StopAfter(steps),
                checkpoints,
            ],
            verbose=progress(),
        )
    return encoder


def new_encoder(settings: PretrainSettings, start: Path | None) -> Encoder:
    """An encoder with the weights of a stage's directory, or with a backbone from a file, or random ones (None)."""
    encoder = Encoder(settings.backbone, settings.embedding_dim, settings.drop_path, settings.recompute)
    if start and start.is_file():
        load_checkpoint(encoder.backbone, start)
    elif start:
        load_weights(encoder, start / ENCODER_FOLDER)
    return encoder
