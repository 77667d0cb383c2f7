"""Turns page views into ranking examples: one per impression, with the history strictly before the page view."""

import functools
import hashlib
from collections.abc import Iterator, Sequence

from beam_jobs.page_views import PageView
from courier_tf import schema
from courier_tf.workdir import example_bytes

_KINDS = schema.IMPRESSION_FEATURES
_CLICKED = [example_bytes.entry("clicked", "int", label) for label in (0, 1)]
_MOST_CACHED = 1 << 14  # Items whose bytes a worker keeps, about 5 MB; with ids of 512 bytes 20.


def impressions(view: PageView, seed: int, context_columns: Sequence[str] = ()) -> Iterator[tuple[int, bytes]]:
    """(sort key, serialised impression) of each item of a page view. A negative that was drawn twice comes twice.

    The key is `stable_hash(seed, page view id, place)`. What the rows of a page view share is hashed and written once.

    Args:
        view: the page view.
        seed: of the order.
        context_columns: names of the values in `view.contexts`.
    """
    shared = {
        "user_id": view.user_id,
        "page_view_id": view.page_view_id,
        "timestamp": view.timestamp,
        "history_item_ids": view.history,
    }
    contexts = [schema.context_feature(column) for column in context_columns]
    names = sorted([*shared, "item_id", "clicked", *contexts])
    entries = [example_bytes.entry(name, _KINDS[name], shared[name]) if name in shared else b"" for name in names]
    of_item, of_label, *of_contexts = [names.index(name) for name in ("item_id", "clicked", *contexts)]
    start = hashlib.blake2b(f"{seed}\x1f{view.page_view_id}\x1f".encode(), digest_size=8)
    for place, (item, clicked) in enumerate(zip(view.items, view.clicked, strict=True)):
        entries[of_item] = _item_entry(item)
        entries[of_label] = _CLICKED[clicked]
        for position, name, value in zip(of_contexts, contexts, view.contexts[place] if contexts else (), strict=True):
            entries[position] = example_bytes.entry(name, "bytes", value)
        key = start.copy()
        key.update(b"%d" % place)
        yield int.from_bytes(key.digest(), "big") >> 1, example_bytes.example(entries)


@functools.lru_cache(_MOST_CACHED)
def _item_entry(item: str) -> bytes:
    return example_bytes.entry("item_id", _KINDS["item_id"], item)
