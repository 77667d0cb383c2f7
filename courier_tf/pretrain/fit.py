"""How a model is fitted: start, strategy, schedule, checkpoints and logs, the same for every objective."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf import tracking
from courier_tf.backbone.architectures import architecture, is_pretrained
from courier_tf.backbone.swin import Padding
from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.encoder_files import AnyEncoder, axes_of, holds_head, load_weights, padding_of
from courier_tf.pretrain.head_start import start_from_head
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.watching import Spread, Throughput, keep_epochs
from courier_tf.settings import PretrainSettings
from courier_tf.training import (
    Checkpoints,
    ProgressLines,
    SlowPart,
    StopAfter,
    compile_with_adam,
    precision_policy,
    rows_per_replica,
)
from courier_tf.workers.workers import ALONE, Workers

STEPS_FILE = "steps.csv"  # In the folder of logs: a row per epoch.
CHECKPOINTS_FOLDER = "checkpoints"  # In the folder of an unfinished stage.
ENCODER_FOLDER = "encoder"  # In a stage's directory: weights and config, for a further training.


class Budget(NamedTuple):
    """How much a model is trained."""

    steps: int  # Steps of the optimizer.
    learning_rate: float  # The peak. A tenth of the steps rises to it, then a cosine over the number of steps falls.
    rows: int  # Rows of the global batch.
    rows_setting: str  # Name of the setting that gives `rows`, for messages.
    rate_option: str  # The option that gives `learning_rate`, for messages.


def fit(
    partial: Path,
    settings: PretrainSettings,
    seed: int,
    new: Callable[[], AnyEncoder],
    build: Callable[[AnyEncoder], CourierModel],
    batches: Callable[[int, int, tf.distribute.InputContext], tf.data.Dataset],
    budget: Budget,
    sample: np.ndarray,
    slow: Callable[[AnyEncoder], SlowPart | None] | None = None,
    workers: Workers = ALONE,
) -> CourierModel:
    """Fits one model on all devices of all workers, from its last checkpoint on; an epoch is `checkpoint_every` steps.

    Args:
        partial: directory of the unfinished stage, for checkpoints and logs.
        settings: those of pre-training.
        seed: decides the weights and every draw.
        new: () -> the encoder before training, called in the strategy's scope.
        build: encoder -> model, called in the strategy's scope.
        batches: (rows of a replica's batch, batches of all replicas to skip, input context) -> endless data set.
        budget: steps, learning rate and rows.
        sample: [M, ...], photos or their features, whose embeddings' spread is logged.
        slow: encoder -> its variables that learn later and slower, called in the strategy's scope.
        workers: those that train together.

    Returns:
        The trained model.

    Raises:
        TrainingError: the loss is not finite, or the embeddings have collapsed.
    """
    steps = budget.steps
    keras.utils.set_random_seed(seed)
    strategy = workers.strategy(settings.replicas)
    share = rows_per_replica(budget.rows, strategy, budget.rows_setting)
    epoch_steps = min(settings.checkpoint_every, steps)
    epochs = -(-steps // epoch_steps)
    with strategy.scope(), precision_policy(settings.precision):
        encoder = new()
        model = build(encoder)
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0, steps, alpha=0.05, warmup_target=budget.learning_rate, warmup_steps=max(steps // 10, 1)
        )
        compile_with_adam(model, schedule, slow(encoder) if slow else None)
        checkpoints = Checkpoints(model, partial / CHECKPOINTS_FOLDER, rate=budget.rate_option)
    checkpoints.restore()
    workers.share(checkpoints.variables())
    done = int(model.steps.numpy())

    def replica_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return batches(share, done * strategy.num_replicas_in_sync, context)

    if done < steps:
        logs = partial / "logs"
        logs.mkdir(exist_ok=True)
        keep_epochs(logs / STEPS_FILE, done // epoch_steps)
        model.fit(
            strategy.distribute_datasets_from_function(replica_batches),
            epochs=epochs,
            initial_epoch=done // epoch_steps,
            steps_per_epoch=epoch_steps,
            callbacks=[
                Throughput(),
                Spread(sample, workers),
                keras.callbacks.CSVLogger(str(logs / STEPS_FILE), append=True),
                keras.callbacks.TensorBoard(str(logs), write_graph=False),
                tracking.Figures("pretrain"),
                StopAfter(steps),
                ProgressLines("pretrain", steps, done),
                checkpoints,
            ],
            verbose=0,  # `ProgressLines` says it, in the log file too.
        )
    return model


def scratch_backbone(settings: PretrainSettings, seed: int, photos: np.ndarray) -> keras.Model | None:
    """A backbone whose random weights come with statistics of photos. It is made outside of a strategy, in float32.

    Args:
        settings: those of pre-training.
        seed: decides the weights.
        photos: [M, S, S, 3] uint8, of the train span.

    Returns:
        None where weights come with the backbone's name, or where the network takes no statistics.
    """
    if is_pretrained(settings.backbone):
        return None
    keras.utils.set_random_seed(seed)
    with precision_policy("float32"):
        return architecture(settings.backbone).from_scratch(photos)


def new_encoder(settings: PretrainSettings, start: Path | None, scratch: keras.Model | None = None) -> Encoder:
    """A new encoder. Its weights come from a stage's directory, those of its backbone from a file, or with its name.

    A directory with a head on the features of the same backbone is a start, too.

    Args:
        settings: those of pre-training.
        start: the directory or the file. None: the weights that come with the backbone's name, or random ones.
        scratch: from `scratch_backbone`: the random weights.

    Raises:
        CheckpointError: the weights of the backbone cannot be read, fetched or fitted.
        EncoderError: those in the directory belong to another encoder.
    """
    kind = architecture(settings.backbone)
    padding: Padding = "masked"
    of_head = start is not None and holds_head(start / ENCODER_FOLDER)
    if start and not of_head:
        padding = kind.padding_of_others() if start.is_file() else padding_of(start / ENCODER_FOLDER)
    axes = axes_of(start / ENCODER_FOLDER) if start and start.is_dir() else 0
    encoder = Encoder(
        settings.backbone,
        settings.embedding_dim,
        settings.drop_path,
        settings.recompute,
        settings.trainable,
        padding,
        axes,
    )
    if start and start.is_file():
        encoder.architecture.load_file(encoder.backbone, start)
    elif start and of_head:
        start_from_head(encoder, start / ENCODER_FOLDER)
    elif start:
        load_weights(encoder, start / ENCODER_FOLDER)
    elif scratch:
        encoder.architecture.learn_as(encoder.backbone, scratch)
    else:
        encoder.architecture.load_pretrained(encoder.backbone)
    return encoder


def slow_backbone(settings: PretrainSettings, start: Path | None, encoder: AnyEncoder) -> SlowPart | None:
    """How the backbone learns from the objective; None where it learns as the layer after it does.

    Args:
        settings: those of pre-training.
        start: what the encoder starts from, as in `new_encoder`.
        encoder: from `new_encoder`.
    """
    if not isinstance(encoder, Encoder):
        return None
    of_head = start is not None and holds_head(start / ENCODER_FOLDER)
    # Here the layer after the backbone is random, and the backbone is not.
    uneven = start.is_file() if start else is_pretrained(settings.backbone)
    factor, first_step = settings.backbone_learning_rate_factor, settings.head_first_steps
    factor = (0.1 if uneven or of_head else 1.0) if factor is None else factor
    first_step = (settings.pretrain_steps // 10 if uneven else 0) if first_step is None else first_step
    if factor == 1.0 and first_step == 0:
        return None
    return SlowPart(encoder.backbone.trainable_variables, factor, first_step)
