"""The section on parts of photos: which part of a candidate's photo raises its score.

A patch in the mean colour of the photo slides over it. Each variant goes through the image embedder that is served, and
takes the place of the photo in the ranker that is served (Zeiler and Fergus 2014, section 4.2: occlusion).
"""

import io
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from PIL import Image

from courier_tf.exporting.image_embedder import ImageEmbedder
from courier_tf.report.blocks import Block, Paragraph, Photo, PhotoRow, Photos
from courier_tf.report.figures import share
from courier_tf.report.views import PageView, features_of, page_views
from courier_tf.report.workdir import Missing, Workdir
from courier_tf.settings.rank_modes import NO_VISUAL_FEATURE
from courier_tf.workdir import records

PLACES = 7  # Of the patch, along each side.
PATCH = 4  # The patch has this part of a side.
EXPLAINED = 3  # Candidates of each page view.
SIDE = 128  # Pixels of a photo in the page.
BATCH = 50  # Variants that are embedded at a time.
RAISES, LOWERS = (255, 120, 0), (0, 90, 255)  # Colours of the overlay, RGB.
STRONGEST = 0.7  # Opacity of the overlay at most.
TINY = 1e-6  # A smaller change of the log odds is rounding.
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "middle", "right")


class PatchedScores:
    """Scores of an item whose photo has been changed, by the embedder and the ranker that are served.

    Args:
        work: whose stages are finished.
    """

    def __init__(self, work: Workdir) -> None:
        self.ranker, stages = work.ranker, work.stages
        self.embedder = ImageEmbedder().build(stages, version=0)
        self.size = stages.pretrain.facts.image_size

    def log_odds(self, user: bytes, history: list[bytes], item: bytes, variants: np.ndarray) -> np.ndarray:
        """[V] float32: the log odds of a click on an item, for each of V variants of its photo.

        Args:
            user, history, item: of the request. The item must be in the catalogue of the ranker.
            variants: [V, S, S, 3] uint8.
        """
        embeddings, codes = self._embedded(variants)
        image, features = self.ranker.image, features_of(user, history, [item], self.ranker.context_names)
        row = int(self.ranker.lookup(features["item_id"])[0])
        before = [None if table is None else table[row].numpy() for table in (image.embeddings, image.codes)]
        probability = []
        try:
            for embedding, code in zip(embeddings, codes, strict=True):
                self._show(row, embedding, code + 1)  # Code 0 stands for an item without a photo.
                probability.append(self.ranker.answer(features).numpy()[0])
        finally:
            self._show(row, *before)
        value = np.clip(np.array(probability, np.float64), 1e-7, 1 - 1e-7)
        return np.log(value / (1 - value)).astype(np.float32)

    def _embedded(self, variants: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        answers = []
        for start in range(0, len(variants), BATCH):
            pixels = [variant.tobytes() for variant in variants[start : start + BATCH]]
            answers.append(self.embedder.of_pixels(tf.constant(pixels)))
        return tuple(np.concatenate([answer[name].numpy() for answer in answers]) for name in ("embedding", "codes"))

    def _show(self, row: int, embedding: np.ndarray | None, codes: np.ndarray | None) -> None:
        """Gives an item other visuals, those that the ranker reads."""
        for table, values in ((self.ranker.image.embeddings, embedding), (self.ranker.image.codes, codes)):
            if table is not None and values is not None and 0 < len(values) == table.shape[1]:
                table.scatter_nd_update([[row]], values[None].astype(table.dtype.as_numpy_dtype))


def blocks(work: Workdir) -> Iterator[Block]:
    """Photos of some candidates of the page views of the section before, with what raises and lowers their scores."""
    if work.stages.mode == NO_VISUAL_FEATURE:
        raise Missing("The ranker that is served sees no photos.")
    views = page_views(work)
    yield Paragraph(
        "A patch hides a part of the photo, and the embedder and the ranker that are served score it anew. Orange: "
        "with this part hidden the score falls, so it raises the score. Blue: it lowers it. The figures are changes "
        "of the log odds of a click; each photo has a scale of its own."
    )
    scores = PatchedScores(work)
    photos = records.read_photos(work.ingest.path, {item for view in views for item in view.items})
    rows = []
    for number, view in enumerate(views, start=1):
        for place in explained(view, photos):
            rows.append(_row(number, view, place, photos[view.items[place]], scores))
    if not rows:
        raise Missing("No candidate of these page views has a photo.")
    yield Photos(rows)


def explained(view: PageView, photos: dict[bytes, bytes]) -> list[int]:
    """Places of the candidates that are shown: the first clicked one and the first others, all new to the user."""
    usable = [place for place, item in enumerate(view.items) if photos.get(item) and item not in view.history]
    clicked = [place for place in usable if view.clicked[place]]
    return sorted(list(dict.fromkeys([*clicked[:1], *usable]))[:EXPLAINED])


def patches(side: int) -> list[tuple[slice, slice]]:
    """(rows, columns) of the places of the patch on a photo of so many pixels, from the top left, row by row."""
    width = max(side // PATCH, 1)
    starts = np.linspace(0, side - width, PLACES).round().astype(int)
    return [(slice(top, top + width), slice(left, left + width)) for top in starts for left in starts]


def variants_of(pixels: np.ndarray) -> np.ndarray:
    """[1 + P, S, S, 3]: a photo [S, S, 3] uint8 as it is, and with the patch at each of its P places."""
    places, colour = patches(len(pixels)), pixels.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    variants = np.repeat(pixels[None], 1 + len(places), axis=0)
    for variant, place in zip(variants[1:], places, strict=True):
        variant[place] = colour
    return variants


def heat_of(log_odds: np.ndarray, side: int) -> np.ndarray:
    """[S, S] float: how much each pixel raises the score, the mean over the patches that hide it.

    Args:
        log_odds: [1 + P], of the variants of a photo as `variants_of` gives them.
        side: S.
    """
    total, number = np.zeros([side, side]), np.zeros([side, side])
    for place, value in zip(patches(side), log_odds[0] - log_odds[1:], strict=True):
        total[place] += value
        number[place] += 1
    return total / np.maximum(number, 1)


def overlay(pixels: np.ndarray, heat: np.ndarray) -> bytes:
    """A photo [S, S, 3] with its heat [S, S] over it, as a PNG of `SIDE` pixels."""
    photo = Image.fromarray(pixels).convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    smooth = Image.fromarray(heat.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    value = np.asarray(smooth) / max(float(np.abs(heat).max()), TINY)
    opacity = (STRONGEST * np.abs(value))[..., None]
    colour = np.where(value[..., None] > 0, RAISES, LOWERS)
    grey = np.asarray(photo.convert("L").convert("RGB"), float)  # So that no colour of the photo is taken for heat.
    stream = io.BytesIO()
    Image.fromarray(((1 - opacity) * grey + opacity * colour).astype(np.uint8)).save(stream, "png")
    return stream.getvalue()


def where(heat: np.ndarray) -> str:
    """The part of a photo with the largest heat [S, S], in words."""
    top, left = np.unravel_index(int(heat.argmax()), heat.shape)
    row, column = (int(3 * place / len(heat)) for place in (top, left))
    return "middle" if (row, column) == (1, 1) else f"{ROWS[row]} {COLUMNS[column]}"


def _row(number: int, view: PageView, place: int, photo: bytes, scores: PatchedScores) -> PhotoRow:
    pixels = np.asarray(
        Image.open(io.BytesIO(photo)).convert("RGB").resize((scores.size, scores.size), Image.Resampling.BOX)
    )
    item = view.items[place]
    log_odds = scores.log_odds(view.user, view.history, item, variants_of(pixels))
    heat = heat_of(log_odds, len(pixels))
    name, probability = item.decode(), share(float(view.probability[place]), 1)
    figures = {"item": name, "click probability": probability + (", clicked" if view.clicked[place] else "")}
    title = f"Page view {number}, candidate {place + 1}"
    if np.abs(heat).max() < TINY:
        figures["parts"] = "no patch changes the score: the gate of the category is shut, or the cluster stays the same"
        return PhotoRow(title, figures, [Photo(name, SIDE)])
    strongest, weakest = log_odds[0] - log_odds[1:].min(), log_odds[0] - log_odds[1:].max()
    figures["most by a part"] = f"{strongest:+.3f}, {where(heat)}"
    figures["least by a part"] = f"{weakest:+.3f}"
    alt = f"parts of {name} that raise the score, most at the {where(heat)}"
    return PhotoRow(title, figures, [Photo(name, SIDE), Photo(name, SIDE, image=overlay(pixels, heat), alt=alt)])
