"""One process of several that train together: `python -m tests.pretrain.worker OUT`, its place in TF_CONFIG."""

import tests.conftest  # noqa: F401  (the Keras of this project, and its tiny Swin)

# isort: split
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from tests.pretrain.objectives.batches import batch_of, raw_batch, store
from tests.pretrain.objectives.models import model_of

STEPS = 5


def halves():
    """The rows of both workers, and the photos."""
    rng = np.random.default_rng(7)
    pixels, attributes = store(rng)
    return [raw_batch(rng), raw_batch(rng)], pixels, attributes


def stream(raw, pixels, attributes):
    batch = batch_of(raw, pixels, attributes)
    specs = {k: tf.TensorSpec([None, *v.shape[1:]], v.dtype) for k, v in batch.items()}
    return tf.data.Dataset.from_generator(lambda: iter([batch]), output_signature=specs).repeat()


def trained(model, data):
    """{"loss": of the epoch, "0", "1", ...: the weights} after STEPS steps."""
    history = model.fit(data, steps_per_epoch=STEPS, verbose=0)
    weights = {str(place): weight.numpy() for place, weight in enumerate(model.trainable_variables)}
    return {"loss": np.array(history.history["loss"]), **weights}


def main() -> None:
    tf.config.experimental.enable_op_determinism()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    worker = strategy.cluster_resolver.task_id
    raws, pixels, attributes = halves()
    model = model_of("courier", strategy, rate=0.005)
    result = trained(
        model, strategy.distribute_datasets_from_function(lambda _: stream(raws[worker], pixels, attributes))
    )
    np.savez(Path(sys.argv[1]) / f"worker{worker}.npz", **result)


if __name__ == "__main__":
    main()
