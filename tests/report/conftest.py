"""The finished chain on a small shop that the tests of the chain share, and its report."""

from html.parser import HTMLParser

import pytest

from courier_tf.report.page import write_page
from tests.chain.conftest import finished  # noqa: F401 (fixture)


class Page(HTMLParser):
    """What stands on a page: tables by caption, texts and images by section, elements by tag.

    Attributes:
        tables: caption -> rows of cells, the header first.
        texts: anchor of a section -> all of its text.
        images: anchor of a section -> (alt, source) of its images.
        tags: every tag with its attributes.
    """

    VOID = {"meta", "img", "br", "link"}

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tables, self.texts, self.images, self.tags = {}, {}, {}, []
        self._section, self._rows, self._cell, self._caption = "", None, None, None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if tag == "section":
            self._section = attributes["id"]
            self.texts[self._section], self.images[self._section] = "", []
        elif tag == "img":
            self.images[self._section].append((attributes.get("alt"), attributes["src"]))
        elif tag == "table":
            self._rows = []
        elif tag == "caption":
            self._caption = ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._cell = ""

    def handle_endtag(self, tag):
        if tag == "table":
            assert self._caption not in self.tables, "captions tell tables apart"
            self.tables[self._caption] = self._rows
            self._rows = None
        elif tag in ("td", "th"):
            self._rows[-1].append(self._cell.strip())
            self._cell = None

    def handle_data(self, data):
        if self._section:
            self.texts[self._section] += data
        if self._cell is not None:
            self._cell += data
        elif self._caption == "" and self._rows == []:
            self._caption = data


@pytest.fixture(scope="session")
def reported(finished):  # noqa: F811 (fixture)
    """(workdir, its page) of the finished chain."""
    workdir = finished[1].workdir
    return workdir, Page(write_page(workdir).read_text())
