"""What sections are made of: plain data, which the template of the page shows. Texts are escaped there."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from markupsafe import Markup


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """A paragraph of text. A `strong` one is what the section is about."""

    kind: ClassVar[str] = "paragraph"
    text: str
    strong: bool = False


@dataclasses.dataclass(frozen=True)
class Heading:
    """The heading of a part of a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclasses.dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Attributes:
        caption: what it shows.
        columns: their headers.
        rows: cells, as many in each as there are columns.
        texts: number of columns at the left that hold text; the others hold figures.
        folded: shown when it is asked for.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Chart:
    """A chart, and its figures as a table for those who cannot see it.

    Attributes:
        title: what it shows.
        alt: what can be seen there, in a sentence or two.
        svg: the drawing, as `charts` makes it.
        figures: what was drawn.
    """

    kind: ClassVar[str] = "chart"
    title: str
    alt: str
    svg: Markup
    figures: Table


@dataclasses.dataclass(frozen=True)
class Photo:
    """The photo of an item, or an image that a section has made.

    Attributes:
        item: id of the item.
        side: most pixels of a side.
        words: lines below it.
        image: an encoded image in place of the item's photo.
        marked: it has a frame.
        alt: what the image shows, for those who cannot see it; empty: the id of the item.
    """

    item: str
    side: int = 56
    words: Sequence[str] = ()
    image: bytes | None = None
    marked: bool = False
    alt: str = ""


@dataclasses.dataclass(frozen=True)
class Photos:
    """Rows of photos with a heading and figures each.

    Attributes:
        rows: one per cluster, item or candidate.
    """

    kind: ClassVar[str] = "photos"
    rows: Sequence["PhotoRow"]


@dataclasses.dataclass(frozen=True)
class PhotoRow:
    """A row of photos.

    Attributes:
        title: its heading; empty for none.
        figures: name -> value, beside the photos.
        photos: in their order.
        groups: further photos below, by a few words that say what they are.
    """

    title: str
    figures: Mapping[str, str]
    photos: Sequence[Photo]
    groups: Mapping[str, Sequence[Photo]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Map:
    """Photos at places of a square.

    Attributes:
        title, alt: as of `Chart`.
        points: (from the left, from the top) from 0 to 1, and the photo there.
    """

    kind: ClassVar[str] = "map"
    title: str
    alt: str
    points: Sequence[tuple[float, float, Photo]]


Block = Paragraph | Heading | Table | Chart | Photos | Map


def photos_of(block: Block) -> list[Photo]:
    """All photos of a block."""
    if isinstance(block, Map):
        return [photo for _, _, photo in block.points]
    if isinstance(block, Photos):
        return [photo for row in block.rows for group in (row.photos, *row.groups.values()) for photo in group]
    return []
