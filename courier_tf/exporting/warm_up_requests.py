"""Real requests from the logs, of several sizes: what a server warms up with, and what it is checked with."""

import itertools
from collections import defaultdict, deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from courier_tf import schema
from courier_tf.ranking.data import impression_batches
from courier_tf.workdir import records
from serving.bundle.batching import JOINED_MODELS, MOST_ROWS
from serving.bundle.messages import Request
from serving.client.request_log import RequestLogError, read_log

ROWS = (1, 8, 32)
CANDIDATES = (10, 100, 500)  # Of one row of `rank`.
PHOTOS = (1, 8, 32)
MOST_LOGGED, MOST_LOGGED_ROWS = 100, 1000  # Of a signature: those that were asked last. A version is loaded after them.


def logged_requests(log: Path) -> dict[str, list[Request]]:
    """Model -> the requests of a `RequestLog` (file or folder), of each signature the newest, within the limits.

    Requests with more rows than a server joins are left out: it would refuse them, and with them the version.

    Raises:
        RequestLogError: it is missing, broken or empty, or has a request to no model of ours.
    """
    too_large = 0
    newest: defaultdict[tuple[str, str], deque[Request]] = defaultdict(lambda: deque(maxlen=MOST_LOGGED))
    for logged in read_log(log):
        if logged.model not in schema.SERVED_MODELS:
            raise RequestLogError(f"{log} holds a request to {logged.model!r}, which is none of {schema.SERVED_MODELS}")
        if logged.model in JOINED_MODELS and _rows(logged.request) > MOST_ROWS:
            too_large += 1
        else:
            newest[logged.model, logged.request.signature].append(logged.request)
    if too_large:
        print(f"[export] {too_large} requests of {log} have more than {MOST_ROWS} rows, and are left out", flush=True)
    if not newest:
        raise RequestLogError(f"{log} holds no request that a server could warm up with")
    found: defaultdict[str, list[Request]] = defaultdict(list)
    for (model, _), requests in newest.items():
        rows = itertools.accumulate(map(_rows, reversed(requests)))
        within = max(1, sum(total <= MOST_LOGGED_ROWS for total in rows))
        found[model].extend(list(requests)[-within:])
    return dict(found)


def _rows(request: Request) -> int:
    return max((len(value) for value in request.inputs.values() if np.ndim(value)), default=1)


def with_logged(logged: Sequence[Request], made: Sequence[Request]) -> list[Request]:
    """The logged requests, and of the signatures that have none those that were made: no signature stays cold."""
    signatures = {request.signature for request in logged}
    return [*logged, *(request for request in made if request.signature not in signatures)]


def ranker_requests(ingest: Path, history_length: int) -> list[Request]:
    """Requests to every signature of `ctr_ranker`, from the first impressions of the valid span."""
    batch = next(
        iter(impression_batches(ingest, "valid", history_length=history_length, batch_size=max(ROWS) + max(CANDIDATES)))
    )
    user, history, item = (batch[name].numpy() for name in schema.EXAMPLE_FEATURES)
    every = np.resize(np.unique(item), max(CANDIDATES))
    chosen = np.resize(np.arange(len(user)), max(ROWS))  # A short log is gone through again.
    user, item = user[chosen], item[chosen]
    # The empty id comes first, as the client has it: with the first id of a request a server pads those that it joins.
    history = np.concatenate([np.full([len(user), 1], b"", object), history[chosen]], axis=1)
    requests = []
    for rows in ROWS:
        pairs = dict(zip(schema.EXAMPLE_FEATURES, (user[:rows], history[:rows], item[:rows]), strict=True))
        requests.append(Request(schema.DEFAULT_SIGNATURE, pairs))
        examples = {"inputs": np.array([serialised_example(*row) for row in zip(*pairs.values(), strict=True)], object)}
        requests += [Request(name, examples) for name in (schema.EXAMPLES, schema.CLASSIFY, schema.REGRESS)]
    for rows, candidates in [(1, number) for number in CANDIDATES] + [(rows, CANDIDATES[0]) for rows in ROWS[1:]]:
        many = np.tile(every[:candidates], [rows, 1])
        asked = {"user_id": user[:rows], "history_item_ids": history[:rows], "item_id": many}
        requests.append(Request(schema.RANK, asked))
    return requests


def photo_requests(ingest: Path, signature: str) -> list[Request]:
    """Requests with the photos of items."""
    photos = _first(ingest, "image")
    return [Request(signature, {"photos": np.resize(photos, rows)}) for rows in PHOTOS]


def embedder_requests(ingest: Path, image_size: int) -> list[Request]:
    """Requests to every signature of `image_embedder`."""
    photo = tf.io.decode_image(_first(ingest, "image")[0], channels=3, expand_animations=False)
    pixels = tf.image.resize(photo, [image_size, image_size], method="area").numpy().astype(np.uint8)
    asked = [Request(schema.PIXELS, {"pixels": np.tile(pixels, [rows, 1, 1, 1])}) for rows in PHOTOS]
    return photo_requests(ingest, schema.DEFAULT_SIGNATURE) + asked


def similar_requests(ingest: Path, embedding: np.ndarray) -> list[Request]:
    """Requests to every signature of `similar_items`; `embedding` is that of some item, [D] float32."""
    items = _first(ingest, "item_id")
    by_item = [Request(schema.DEFAULT_SIGNATURE, {"item_id": np.resize(items, rows)}) for rows in PHOTOS]
    by_embedding = [Request(schema.BY_EMBEDDING, {"embedding": np.tile(embedding, [rows, 1])}) for rows in PHOTOS]
    return by_item + by_embedding + photo_requests(ingest, schema.BY_PHOTO)


def serialised_example(user: bytes, history: np.ndarray, item: bytes) -> bytes:
    """A tf.Example as the ranker takes it; history [H], padded with b""."""
    example = tf.train.Example()
    example.features.feature["user_id"].bytes_list.value.append(user)
    example.features.feature["history_item_ids"].bytes_list.value.extend(i for i in history if i)
    example.features.feature["item_id"].bytes_list.value.append(item)
    return example.SerializeToString()


def _first(ingest: Path, feature: str) -> np.ndarray:
    """[at most 32] bytes of the first items that have a photo."""
    features = {name: schema.ITEM_FEATURES[name] for name in ("item_id", "image")}
    found: list[bytes] = []
    for batch in tf.data.TFRecordDataset(records.files(ingest / schema.ITEMS_FOLDER, "items")).batch(256):
        parsed = {name: value.numpy() for name, value in records.parse(batch, features).items()}
        found += parsed[feature][parsed["image"] != b""].tolist()
        if len(found) >= max(PHOTOS):
            break
    return np.array(found[: max(PHOTOS)], object)
