"""Memory and speed of a ranker with very many users and items, in one worker or several.

python -m tests.benchmarks.ranking.tables ROWS WORKERS dense|sparse [BUCKETS]

ROWS: users, and items. BUCKETS: rows to hash each of them into. Starts the workers on this machine, and prints a row
for each: peak memory in GiB, and impressions/s of all together.
"""

import courier_tf  # noqa: F401  (chooses the Keras before TensorFlow is imported)

# isort: split
import json
import socket
import subprocess
import sys
import time

import numpy as np

from tests.benchmarks.child import answer

BATCH, HISTORY, STEPS = 1024, 10, 8


def worker(rows: int, addresses: str, index: int, gradient: str, buckets: int) -> None:
    """Trains one ranker; the batch is that of all workers."""
    from courier_tf.process import prepare

    prepare()
    import tensorflow as tf

    from courier_tf.ranking import model, trained_model
    from courier_tf.training import compile_with_adam
    from courier_tf.workers.places import places_of
    from courier_tf.workers.workers import Workers
    from tests.ranking.shop import NOW, Catalogue, catalogue_visuals, items, plan

    workers = Workers(places_of([addresses], index, None))
    workers.join()
    trained_model.DENSE_WEIGHTS = trained_model.DENSE_SHARED_WEIGHTS = 0 if gradient == "sparse" else 2**40
    ids = np.array([b"%08d" % number for number in range(rows)], object)
    ones = np.ones(rows, np.int64)
    columns = {"category": np.array([b"%d" % (number % 50) for number in range(rows)], object)}
    shop = items(
        ids=ids,
        columns=columns,
        titles=ids[:0],
        available_from=ones,
        train_impressions=ones,
        train_events=ones,
        photos=ids,
    )
    catalogue = Catalogue.of(shop, ["category"], NOW, [], buckets)
    users = ids[:0] if buckets else ids
    made = plan(dim=16, with_catalogue=catalogue, users=users, visual=catalogue_visuals(), user_buckets=buckets)
    with workers.strategy().scope():
        ranker = model.Ranker(*made)
        ranker({name: tf.constant(value) for name, value in features(ids, 2, 0).items()}, training=False)
        compile_with_adam(ranker, 1e-3)
    share = BATCH // workers.places.number

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        parts = [features(ids, share, step * 100 + context.input_pipeline_id) for step in range(4)]
        stacked = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        return tf.data.Dataset.from_tensor_slices(stacked).repeat()

    data = workers.strategy().distribute_datasets_from_function(batches)
    ranker.fit(data, steps_per_epoch=2, verbose=0)
    started = time.perf_counter()
    ranker.fit(data, steps_per_epoch=STEPS, verbose=0)
    answer(rate=BATCH * STEPS / (time.perf_counter() - started))


def features(ids: np.ndarray, rows: int, seed: int) -> dict[str, np.ndarray]:
    """Impressions of random users and items."""
    rng = np.random.default_rng(seed)
    return {
        "user_id": rng.choice(ids, rows).astype("S8"),
        "history_item_ids": rng.choice(ids, [rows, HISTORY]).astype("S8"),
        "item_id": rng.choice(ids, rows).astype("S8"),
        "clicked": rng.integers(0, 2, rows),
    }


def main(rows: str, number: str, gradient: str, buckets: str = "0", index: str = "", addresses: str = "") -> None:
    if addresses:
        worker(int(rows), addresses, int(index), gradient, int(buckets))
        return
    sockets = [socket.create_server(("localhost", 0)) for _ in range(int(number))]
    addresses = ",".join(f"localhost:{one.getsockname()[1]}" for one in sockets)
    for one in sockets:
        one.close()
    command = [sys.executable, "-m", "tests.benchmarks.ranking.tables", rows, number, gradient, buckets]
    running = [
        subprocess.Popen([*command, str(place), addresses], stdout=subprocess.PIPE, text=True)
        for place in range(int(number))
    ]
    for process in running:
        text, _ = process.communicate()
        told = json.loads(text.splitlines()[-1])
        figures = f"{told['peak'] / 1024:.2f} | {told['rate']:.0f}"
        print(f"| {rows} | {buckets} | {number} | {gradient} | {figures} |", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
