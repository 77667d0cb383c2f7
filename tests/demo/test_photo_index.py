"""Photos read by their place are those of the records."""

from courier_tf.demo.photo_index import PhotoIndex
from courier_tf.workdir import records


def test_each_photo_is_that_of_its_item(work):
    ids = set(work.items.ids.tolist())
    expected = records.read_photos(work.ingest.path, ids)
    photos = PhotoIndex(work.ingest.path)
    assert len(expected) == len(ids) > 100 and any(expected.values())
    assert {item: photos.read(item) for item in ids} == expected


def test_an_unknown_item_has_no_photo(work):
    assert PhotoIndex(work.ingest.path).read(b"nowhere") == b""
