"""Names and limits that the client and the served models share. Each is defined here and nowhere else."""

import enum
from typing import NamedTuple

import numpy as np

# Models and their signatures.
CTR_RANKER, IMAGE_EMBEDDER, SIMILAR_ITEMS = "ctr_ranker", "image_embedder", "similar_items"

DEFAULT_SIGNATURE = "serving_default"  # Each model has it.
RANK, EXAMPLES, CLASSIFY, REGRESS = "rank", "examples", "classify", "regress"  # Further signatures of the ranker.
PIXELS = "pixels"  # A further signature of the embedder.
BY_EMBEDDING, BY_PHOTO = "by_embedding", "by_photo"  # Further signatures of `similar_items`; its default takes items.

#: The most candidates in one row of `rank`. The limit bounds the memory of a server.
MAX_CANDIDATES = 10_000
#: The most pairs in one request to the ranker: its rows, in `rank` times the candidates of a row, such as 64 rows of
#: 500. It bounds the memory, too.
MAX_PAIRS = 32_000
#: The most rows in one request of the client, and in the batch that a server makes of joined requests.
MOST_ROWS = 64
#: The most rows in one request to `image_embedder` and `similar_items`, which compute up to `MOST_ROWS` at a time.
MAX_ROWS = 1024
#: The most parts of a call that a client sends at once: a server has others to answer.
PARALLEL_PARTS = 8
#: The models for which a client sends a request with more rows in parts.
SPLIT = (CTR_RANKER, IMAGE_EMBEDDER, SIMILAR_ITEMS)
#: The most pixels of a photo.
MAX_PIXELS = 50_000_000

STABLE, CANARY = "stable", "canary"  # Labels of versions.

# Headers of a request. By gRPC the deadline travels by itself.
REQUEST_ID, TIMEOUT_HEADER = "x-request-id", "x-request-timeout-seconds"


class RowStatus(enum.IntEnum):
    """What became of one row of a request. A row that cannot be used has a status, and the other rows are answered."""

    OK = 0
    EMPTY = 1  # No bytes.
    UNKNOWN_FORMAT = 2  # Neither JPEG nor PNG, nor WebP where the exporting TensorFlow has an op for it (from 2.20 on).
    TOO_LARGE = 3  # More pixels than a photo may have.
    BROKEN = 4  # Cannot be decoded.
    UNKNOWN_ITEM = 5  # An item id that is not in the catalogue, or has no photo.
    NO_DIRECTION = 6  # An embedding that is zero or not finite.
    ANIMATED = 7  # A photo of several frames.


class Request(NamedTuple):
    """A request to a model: a signature, and an array for each of its inputs. Strings are arrays of bytes objects."""

    signature: str
    inputs: dict[str, np.ndarray]
