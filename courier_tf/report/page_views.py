"""The section on page views: what the ranker puts first, and what of the history it looks at for that."""

from collections.abc import Iterator

import numpy as np

from courier_tf.report.blocks import Block, Heading, Paragraph, Photo, PhotoRow, Photos
from courier_tf.report.figures import NONE, share
from courier_tf.report.views import PageView, page_views
from courier_tf.report.workdir import Workdir

CANDIDATES, EXPLAINED, HISTORY = 12, 4, 6  # Shown of a page view, explained by the history, history items of each.


def blocks(work: Workdir) -> Iterator[Block]:
    """Some page views of the valid span, each with its history and the attention of the first candidates."""
    views = page_views(work)
    yield Paragraph(
        f"Page views of the valid span with a click, drawn at random; the ranker is {work.stages.mode}. Candidates "
        "stand in its order, those with a frame were clicked. Below them stand their click probability and their place "
        "without photos. Attention is the part of the history that a candidate is compared with: shares of 100 %. The "
        "cosine says how alike the photos are."
    )
    for number, view in enumerate(views, start=1):
        yield Heading(f"Page view {number}")
        yield Photos([_shown(view), *(_explained(view, place) for place in range(min(EXPLAINED, len(view.items))))])


def _shown(view: PageView) -> PhotoRow:
    photos = []
    for place, item in enumerate(view.items[:CANDIDATES]):
        words = [f"{place + 1}. {share(float(view.probability[place]), 1)}"]
        if view.place_without is not None:
            words.append(f"without: {view.place_without[place]}.")
        if view.clicked[place]:
            words.append("clicked")
        photos.append(Photo(item.decode(), 72, words, marked=bool(view.clicked[place])))
    past = [Photo(item.decode()) for item in view.history]
    return PhotoRow("", {}, photos, {"What the user had clicked before, oldest first": past})


def _explained(view: PageView, place: int) -> PhotoRow:
    """The history items that a candidate attends to most."""
    order = np.argsort(-view.attention[place], kind="stable")[:HISTORY]
    photos = []
    for row in order:
        cosine = view.cosine[place, row]
        alike = NONE if np.isnan(cosine) else f"{cosine:.4f}"
        attention = share(float(view.attention[place, row]), 1)
        photos.append(Photo(view.history[row].decode(), 48, [f"attention {attention}", f"cosine {alike}"]))
    item = view.items[place].decode()
    words = f"Candidate {place + 1}, {item}: what of the history it attends to"
    return PhotoRow("", {}, [Photo(item, 48, marked=bool(view.clicked[place]))], {words: photos})
