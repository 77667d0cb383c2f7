"""Turns page views into ranking examples: one per impression, with the history strictly before the page view."""

import hashlib
from collections.abc import Iterator, Sequence

from beam_jobs.page_views import PageView
from courier_tf import schema
from courier_tf.workdir import example_bytes

_KINDS = schema.IMPRESSION_FEATURES
_CLICKED = [example_bytes.entry("clicked", "int", label) for label in (0, 1)]


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
    entries = {name: example_bytes.entry(name, _KINDS[name], value) for name, value in shared.items()}
    start = hashlib.blake2b(f"{seed}\x1f{view.page_view_id}\x1f".encode(), digest_size=8)
    for place, (item, clicked) in enumerate(zip(view.items, view.clicked, strict=True)):
        entries["item_id"] = example_bytes.entry("item_id", "bytes", item)
        entries["clicked"] = _CLICKED[clicked]
        for column, value in zip(context_columns, view.contexts[place] if context_columns else (), strict=True):
            name = schema.context_feature(column)
            entries[name] = example_bytes.entry(name, "bytes", value)
        key = start.copy()
        key.update(b"%d" % place)
        yield int.from_bytes(key.digest(), "big") >> 1, example_bytes.example(entries)
