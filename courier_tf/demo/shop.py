"""What the demo page shows of a workdir: page views, items and their clusters. Scores come from the server."""

import dataclasses
from typing import Any

import numpy as np

from courier_tf.clusters.files import NO_CLUSTER
from courier_tf.demo.photo_index import PhotoIndex
from courier_tf.ranking.ranker_files import load_context_names
from courier_tf.report.clusters import cluster_of
from courier_tf.report.views import Shown, shown_page_views
from courier_tf.report.workdir import Workdir
from courier_tf.schema import CATEGORY
from courier_tf.workdir.stages import CLUSTER

VIEWS, MOST_HITS, OF_CLUSTER = 40, 24, 12  # Page views to choose from, items that a search or a cluster gives.
MOST_CANDIDATES = 24  # Of a page view; more are not looked at.


@dataclasses.dataclass(frozen=True)
class View:
    """A page view: ids of its user, history (oldest first) and candidates, and which of these were clicked."""

    user: str
    history: list[str]
    candidates: list[str]
    clicked: list[bool]


class Shop:
    """The data of a workdir, by item id.

    Args:
        work: the workdir.
        seed: of the draw of page views.

    Raises:
        Missing: a stage has not run, or no page view can be shown.
    """

    def __init__(self, work: Workdir, seed: int = 0) -> None:
        self.items, self.photos = work.items, PhotoIndex(work.ingest.path)
        self.history_length, self.mode = work.stages.history_length, work.stages.mode
        self.context_names = load_context_names(work.stages.ranker)
        self.cluster = cluster_of(work.read(CLUSTER).path, self.items)
        usable = [view for view in shown_page_views(work) if self._is_usable(view)]
        drawn = np.random.default_rng(seed).permutation(len(usable))[:VIEWS]
        self.views = [_view(usable[number]) for number in drawn]

    def _is_usable(self, view: Shown) -> bool:
        _, history, items, clicked = view
        return any(clicked[:MOST_CANDIDATES]) and len(items) > 2 and len(history) > 1

    def described(self, item: str) -> dict[str, Any]:
        """What the page says of an item; an unknown one has its id alone."""
        row = int(self.items.rows_of(np.array([item.encode()], object))[0])
        if row < 0:
            return {"id": item, "title": "", "category": "", "cluster": None}
        cluster = int(self.cluster[row])
        return {
            "id": item,
            "title": _text(self.items.titles[row]),
            "category": _text(self.items.columns[CATEGORY][row]) if CATEGORY in self.items.columns else "",
            "cluster": None if cluster == NO_CLUSTER else cluster,
        }

    def of_cluster(self, cluster: int) -> list[str]:
        """Some items of a cluster, those with the most impressions first."""
        members = np.flatnonzero(self.cluster == cluster)
        return self._most_shown(members, OF_CLUSTER)

    def search(self, words: str) -> list[str]:
        """Items with the words in id, title or category, in any case; those with the most impressions first."""
        wanted = words.casefold()
        texts = [self.items.ids, self.items.titles, self.items.columns.get(CATEGORY, self.items.titles)]
        rows = enumerate(zip(*texts, strict=True))
        hits = [row for row, fields in rows if any(wanted in _text(field).casefold() for field in fields)]
        return self._most_shown(np.array(hits, int), MOST_HITS)

    def _most_shown(self, rows: np.ndarray, number: int) -> list[str]:
        order = np.argsort(-self.items.impressions[rows], kind="stable")[:number]
        return [_text(self.items.ids[row]) for row in rows[order]]


def _view(shown: Shown) -> View:
    user, history, items, clicked = shown
    return View(
        _text(user),
        [_text(item) for item in history],
        [_text(item) for item in items[:MOST_CANDIDATES]],
        clicked[:MOST_CANDIDATES],
    )


def _text(content: bytes) -> str:
    return content.decode(errors="replace")
