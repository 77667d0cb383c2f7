"""Rows per second of the ranker.

python -m tests.benchmarks.ranking.speed SIDE PART RUN ROWS MODE

SIDE: ours, torch. PART: step, training on batches in memory; input, batches alone; whole, training from the input.
"""

import itertools
import sys
from pathlib import Path

import courier_tf  # noqa: F401  (chooses the Keras before TensorFlow is imported)
from courier_tf.process import prepare
from tests.benchmarks.child import answer, repeated

IN_MEMORY, READ = 16, 40  # Batches of ours that are trained on in turn; of 8192 rows that torch keeps.


def ours(part: str, run: Path, rows: int, mode: str):
    import tensorflow as tf

    from courier_tf.ranking.data import impression_batches
    from tests.benchmarks.ranking.ours import HISTORY, build

    data = impression_batches(run / "ingest", "train", history_length=HISTORY, batch_size=rows, seed=0)
    if part == "input":
        endless = iter(data.repeat())
        return lambda: next(endless)
    ranker = build(run, mode)
    step = tf.function(ranker.train_step, input_signature=[data.element_spec], autograph=False)
    if part == "step":
        data = data.take(IN_MEMORY).cache()
        list(data)
    endless = iter(data.repeat())
    return lambda: step(next(endless))


def torch(part: str, run: Path, rows: int, mode: str):
    import torch as t

    from tests.benchmarks.ranking.ours import RATE, build
    from tests.benchmarks.ranking.torch_ranker import TorchRanker, arrays_of, train_step

    t.manual_seed(0)
    ranker = build(run, mode)
    model = TorchRanker(ranker)
    optimizer = t.optim.Adam(model.parameters(), RATE)
    data = t.utils.data.TensorDataset(*arrays_of(ranker, run / "ingest", READ))
    order = t.utils.data.BatchSampler(t.utils.data.RandomSampler(data), rows, drop_last=True)

    def batches():
        while True:
            yield from t.utils.data.DataLoader(data, sampler=order, batch_size=None)

    endless = batches()
    if part == "input":
        return lambda: next(endless)
    if part == "step":
        endless = itertools.cycle(list(itertools.islice(endless, IN_MEMORY)))
    return lambda: train_step(model, optimizer, next(endless))


def main(side: str, part: str, run: str, rows: str, mode: str) -> None:
    prepare()
    step = {"ours": ours, "torch": torch}[side](part, Path(run), int(rows), mode)
    answer(rate=int(rows) / repeated(step))


if __name__ == "__main__":
    main(*sys.argv[1:])
