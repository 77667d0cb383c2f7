"""Writes the report of a workdir: its sections, their photos, and the one template."""

import base64
import functools
import io
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import jinja2
from markupsafe import Markup
from PIL import Image

import courier_tf
from courier_tf.escaping import LONGEST_PATH, printable, printable_message
from courier_tf.report import (
    calibration,
    clusters,
    cold_items,
    cost,
    curves,
    data,
    embedding_map,
    gains,
    gates,
    neighbours,
    occlusion,
    page_views,
    provenance,
    verdict,
)
from courier_tf.report.blocks import Block, Paragraph, Photo, photos_of
from courier_tf.report.workdir import Missing, Workdir
from courier_tf.workdir import records
from courier_tf.workdir.atomic import write_file
from courier_tf.workdir.damage import damage_named

LOG = logging.getLogger(__name__)
PAGE_FILE = "report.html"
QUALITY = 72  # Of the WebP of a photo: 1 to 2 kB at 56 pixels.

Make = Callable[[Workdir], Iterator[Block]]


class Section(NamedTuple):
    """A section of the page."""

    name: str  # Of its anchor.
    title: str
    blocks: list[Block]


#: Name -> (title, what makes its blocks), in the order of the page.
SECTIONS: dict[str, tuple[str, Make]] = {
    "verdict": ("Verdict", verdict.blocks),
    "gains": ("Gains", gains.blocks),
    "data": ("Data and rejects", data.blocks),
    "training": ("Training", curves.blocks),
    "clusters": ("Clusters", clusters.blocks),
    "map": ("Map of the embeddings", embedding_map.blocks),
    "neighbours": ("Nearest neighbours", neighbours.blocks),
    "page-views": ("Page views", page_views.blocks),
    "parts": ("Parts of a photo", occlusion.blocks),
    "calibration": ("Calibration", calibration.blocks),
    "gates": ("Categories and their gates", gates.blocks),
    "cold": ("Cold items", cold_items.blocks),
    "cost": ("Cost", cost.blocks),
    "provenance": ("Provenance", provenance.blocks),
}


def write_page(workdir: Path) -> Path:
    """Writes `PAGE_FILE` into a workdir; returns its path.

    A section that fails is logged with its cause, and the page says so in its place.

    Args:
        workdir: on this machine, at any stage of its run.

    Raises:
        OSError: the file cannot be written.
    """
    work = Workdir(workdir)
    sections = [Section(name, title, _blocks(work, title, make)) for name, (title, make) in SECTIONS.items()]
    source = _Sources(work, (photo for section in sections for block in section.blocks for photo in photos_of(block)))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["groupby_run"] = _runs
    page = environment.get_template("page.html").render(
        name=printable(workdir.resolve().name, LONGEST_PATH),
        sections=sections,
        source=source,
        version=courier_tf.__version__,
    )
    write_file(workdir / PAGE_FILE, page)
    return workdir / PAGE_FILE


def _visible(value: object) -> object:
    """Every text of the page without characters that have no shape; the template escapes it after that."""
    return value if not isinstance(value, str) or isinstance(value, Markup) else printable_message(value)


def _runs(blocks: Iterable[Block]) -> list[list[Block]]:
    """Neighbouring blocks of a kind together: charts stand side by side where there is room."""
    return [list(run) for _, run in itertools.groupby(blocks, key=lambda block: block.kind)]


def _blocks(work: Workdir, title: str, make: Make) -> list[Block]:
    """The blocks of a section, as far as they can be made."""
    made: list[Block] = []
    started = time.monotonic()
    try:
        with damage_named():
            made.extend(make(work))
    except Missing as missing:
        made.append(Paragraph(str(missing)))
    except Exception as error:  # The rest of the page is worth having.
        reason = _told(error)
        LOG.warning("the section '%s' of the report is not complete: %s", title, reason)
        made.append(Paragraph(f"This section is not complete: {reason}"))
    LOG.debug("[report] %s: %.1f s", title, time.monotonic() - started)
    return made


def _told(error: Exception) -> str:
    return printable(f"{type(error).__name__}: {error}", 2000)


class _Sources:
    """Photos as they stand in the page: small WebP files inside of addresses.

    Args:
        work: whose items have the photos.
        photos: all that will be asked for.
    """

    def __init__(self, work: Workdir, photos: Iterable[Photo]) -> None:
        wanted = {photo.item.encode() for photo in photos if photo.image is None}
        self._photos: dict[bytes, bytes] = {}
        try:
            if wanted:
                with damage_named():
                    self._photos = records.read_photos(work.ingest.path, wanted)
        except Exception as error:  # As for a section.
            LOG.warning("the report has no photos: %s", _told(error))

    @functools.cache  # noqa: B019 (it lives as long as its page)
    def _encoded(self, item: bytes, side: int) -> str:
        photo = self._photos.get(item, b"")
        return small_image(photo, side) if photo else ""

    def __call__(self, photo: Photo) -> str:
        """The address of a photo; empty where the item has none."""
        if photo.image is not None:
            return small_image(photo.image, photo.side)
        return self._encoded(photo.item.encode(), photo.side)


def small_image(encoded: bytes, side: int) -> str:
    """An image as an address that holds a WebP file.

    Args:
        encoded: the image.
        side: most pixels of a side.
    """
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "webp", quality=QUALITY, method=6)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
