"""The largest difference between our log odds and those of the PyTorch version with our weights.

python -m tests.benchmarks.ranking.parity RUN MODE
"""

import sys
from pathlib import Path

import courier_tf  # noqa: F401  (chooses the Keras before TensorFlow is imported)
from courier_tf.process import prepare
from tests.benchmarks.child import answer


def main(run: str, mode: str) -> None:
    prepare()
    import numpy as np
    import tensorflow as tf
    import torch

    from courier_tf.ranking.data import impression_batches
    from tests.benchmarks.ranking.ours import HISTORY, INPUTS, build
    from tests.benchmarks.ranking.torch_ranker import TorchRanker, arrays_of

    ranker = build(Path(run), mode)
    for weight in ranker.trainable_weights:  # So that no part is near zero.
        weight.assign_add(tf.random.stateless_normal(weight.shape, [0, 1], stddev=0.1))
    model = TorchRanker(ranker).eval()
    model.take(ranker)
    data = impression_batches(Path(run) / "ingest", "train", history_length=HISTORY, batch_size=8192, seed=0)
    ours = np.concatenate([ranker.answer({name: batch[name] for name in INPUTS}) for batch in data.take(1)])
    user, row, history, _ = arrays_of(ranker, Path(run) / "ingest", 1)
    with torch.no_grad():
        theirs = torch.sigmoid(model(user, row, history)[0]).numpy()
    answer(worst=float(np.abs(ours - theirs).max()), spread=float(np.ptp(ours)))


if __name__ == "__main__":
    main(*sys.argv[1:])
