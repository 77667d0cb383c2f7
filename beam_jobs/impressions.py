"""Turns page views into ranking examples: one per impression, with the history strictly before the page view."""

from collections.abc import Iterator

from beam_jobs.page_views import PageView
from beam_jobs.stable import stable_hash
from courier_tf import schema
from courier_tf.workdir import records


def impressions(view: PageView, seed: int) -> Iterator[tuple[int, bytes]]:
    """(sort key, serialised impression) of each item of a page view. A negative that was drawn twice comes twice."""
    for place, (item, clicked) in enumerate(zip(view.items, view.clicked, strict=True)):
        values = {
            "user_id": view.user_id,
            "page_view_id": view.page_view_id,
            "timestamp": view.timestamp,
            "history_item_ids": view.history,
            "item_id": item,
            "clicked": clicked,
        }
        yield stable_hash(seed, view.page_view_id, place), records.serialise(values, schema.IMPRESSION_FEATURES)
