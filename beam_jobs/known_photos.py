"""The photos that an ingest before this one has stored, which are not decoded again."""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import tensorflow as tf

from beam_jobs.items import KnownPhoto
from courier_tf import schema
from courier_tf.files.places import Place
from courier_tf.settings import IngestSettings
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.source import code_below
from courier_tf.workdir.stages import INGEST

_DECODER = ("beam_jobs.photos",)  # The module whose code makes stored photos of files, with all that it imports.
_SPECS = {
    "item_id": tf.io.FixedLenFeature([], tf.string),
    "image": tf.io.FixedLenFeature([], tf.string),
    "photo_digest": tf.io.FixedLenFeature([], tf.string, default_value=b""),  # Records of earlier versions have none.
}


def files_of_known(directories: Iterable[Place], settings: IngestSettings, made_by: MadeBy) -> list[str]:
    """The item records of the first ingest whose photos can be taken over: made at this size, by this decoder.

    Args:
        directories: of ingest stages, finished or not.
        settings: of this ingest.
        made_by: of this ingest.
    """
    decoder = code_below(_DECODER)
    for directory in directories:
        try:
            before = artefacts.read(directory, INGEST)
            files = records.files(before.place / schema.ITEMS_FOLDER, "items")
        except (artefacts.ArtefactError, records.RecordError):  # None, a broken one, or one of another version.
            continue
        same_code = all(before.made_by.code.get(file) == made_by.code.get(file) for file in decoder)
        if same_code and before.facts.image_size == settings.image_size:
            return files
    return []


class ReadKnown(beam.PTransform):
    """(item id, KnownPhoto) of each record.

    Args:
        files: item records.
    """

    def __init__(self, files: list[str]) -> None:
        super().__init__("Known photos")
        self.files = files

    def expand(self, pipeline: Any) -> Any:
        return pipeline | beam.Create(self.files) | beam.Reshuffle() | beam.FlatMap(_known)


def _known(file: str) -> Iterator[tuple[str, KnownPhoto]]:
    for item in records.examples_of(file, _SPECS):
        if item["image"]:
            yield item["item_id"].decode(), KnownPhoto(item["photo_digest"], item["image"])
