"""Where a photo is looked for, and what is never opened."""

import os
import random
import signal
import socket
import unicodedata
from pathlib import Path

import pytest

from beam_jobs import photo_places
from beam_jobs.photo_places import MissingPhotoError, PhotoPlaces
from courier_tf.images import PhotoError

from .conftest import impression_log, photo


@pytest.fixture
def shop(tmp_path) -> Path:
    """A raw folder with photos whose content is their path."""
    folder = tmp_path / "raw"
    for name in (
        "a.jpg",
        "B.JPG",
        "sub/c.png",
        "sub/d.jpg",
        "other/d.jpg",
        "12.jpg",
        "caf\u00e9.webp",
        "two words.jpg",
    ):
        place = folder / "images" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(name)
    (folder / "images" / "._a.jpg").write_text("of another system")
    return folder


def found(shop: Path, name: str, follow: bool = False) -> str:
    return PhotoPlaces(str(shop), follow).read(name).content.decode()


@pytest.mark.parametrize(
    "named, file",
    [
        ("images/a.jpg", "a.jpg"),
        ("./images/a.jpg", "a.jpg"),
        ("/images/a.jpg", "a.jpg"),
        ("//images//a.jpg", "a.jpg"),
        ("images\\sub\\c.png", "sub/c.png"),
        ("C:\\shop\\images\\sub\\c.png", "sub/c.png"),
        ("/srv/shop/images/a.jpg", "a.jpg"),
        ("images/two%20words.jpg", "two words.jpg"),
        ("two+words", None),
        ("images/a.jpg?width=200#x", "a.jpg"),
        ("a", "a.jpg"),
        ("a.jpg", "a.jpg"),
        ("A.Jpg", "a.jpg"),
        ("b", "B.JPG"),
        ("IMAGES/b.jpg", "B.JPG"),
        ("12", "12.jpg"),
        ("c", "sub/c.png"),
        ("sub/c", "sub/c.png"),
        ("cafe\u0301", "caf\u00e9.webp"),
        ("other/d", "other/d.jpg"),
        ("d", "several files fit: images/other/d.jpg, images/sub/d.jpg"),
        ("a.png", "no such file; there is images/a.jpg"),  # Another extension may be another picture,
        ("images/c.png", "no such file; there is images/sub/c.png"),  # and another folder too.
        ("other/c.png", "no such file; there is images/sub/c.png"),
        ("e", None),
        ("0012", None),
    ],
)
def test_names_of_photos(shop, named, file):
    if file and (shop / "images" / file).exists():
        assert found(shop, named) == file
        by_name = not (shop / named).exists()
        assert PhotoPlaces(str(shop), False).read(named).by_name == by_name
    else:
        with pytest.raises(PhotoError, match=file or "^there is no such file$") as raised:
            found(shop, named)
        assert isinstance(raised.value, MissingPhotoError) == ("several" not in str(file))


def test_lookups_agree_with_a_search_of_all_files(tmp_path):
    """A slow search: a file fits where its path ends like the name, without its extension if the name has none."""
    rng = random.Random(0)
    folder = tmp_path / "raw"
    stems, extensions, folders = (
        ["a", "B", "b", "e.1", "\u00e9"],
        [".jpg", ".JPG", ".png", ""],
        ["", "x/", "X/", "x/y/"],
    )
    for _ in range(25):
        file = folder / "images" / (rng.choice(folders) + rng.choice(stems) + rng.choice(extensions))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(file.relative_to(folder)))
    files = [file for file in (folder / "images").rglob("*") if file.is_file()]
    places = PhotoPlaces(str(folder), False)
    outcomes = set()
    for _ in range(400):
        named = rng.choice(["", "images/", "x/", "images/x/", "y/"]) + rng.choice(stems) + rng.choice(extensions)
        wanted = unicodedata.normalize("NFC", named).lower()
        fitting = []
        for file in files:
            path = "/" + str(file.relative_to(folder)).lower()
            bare = path[:-4] if path[-4:] in (".jpg", ".png") else path
            if (path if wanted[-4:] in (".jpg", ".png") else bare).endswith("/" + wanted):
                fitting.append(str(file.relative_to(folder)))
        if (folder / named).is_file():
            expected = named
        else:
            expected = fitting[0] if len(fitting) == 1 else "several" if fitting else "no such file"
        try:
            answer = places.read(named).content.decode()
        except PhotoError as error:
            answer = next(text for text in ("several", "no such file", "folder", str(error)) if text in str(error))
        assert answer == expected, (named, fitting)
        outcomes.add(expected)
    assert {"several", "no such file"} < outcomes and len(outcomes) > 8


def test_only_regular_files_are_opened(shop):
    """A FIFO without a writer would wait for ever, and /dev/zero never ends."""
    images = shop / "images"
    os.mkfifo(images / "fifo.jpg")
    (images / "zero.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(images / "s.jpg"))
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
    signal.alarm(30)
    try:
        for name, kind in (("fifo", "a FIFO"), ("zero", "a device"), ("s", "a socket")):
            for named in (f"images/{name}.jpg", name):
                with pytest.raises(PhotoError, match=f"cannot be read: it is {kind}"):
                    found(shop, named, follow=True)
    finally:
        signal.alarm(0)
    with pytest.raises(PhotoError, match="it is a folder"):
        found(shop, "images/sub")


def test_a_file_that_is_too_large(shop, monkeypatch):
    monkeypatch.setattr(photo_places, "MAX_PHOTO_BYTES", 2**20)
    (shop / "images" / "large.jpg").write_bytes(bytes(2**20))
    assert len(found(shop, "large")) == 2**20
    (shop / "images" / "large.jpg").write_bytes(bytes(2**20 + 1))
    with pytest.raises(PhotoError, match="more than 1 MB"):
        found(shop, "large")


def test_a_file_that_holds_more_than_it_says_is_read_no_further(shop):
    (shop / "images" / "endless.jpg").symlink_to("/proc/self/status")  # A regular file of size 0.
    with pytest.raises(PhotoError, match="cannot be read: it has grown meanwhile"):
        found(shop, "endless", follow=True)


def test_a_photo_written_as_text_is_no_name(shop):
    with pytest.raises(PhotoError, match="^5000 characters are no name of a file"):
        found(shop, "iVBORw0KGg" * 500)


def test_links_out_of_the_folder_are_followed_on_request(shop, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "o.jpg").write_text("outside")
    (outside / "circle").symlink_to(outside)
    images = shop / "images"
    (images / "link.jpg").symlink_to(outside / "o.jpg")
    (images / "folder").symlink_to(outside)
    (images / "inner.jpg").symlink_to(images / "a.jpg")
    (images / "loop.jpg").symlink_to(images / "loop.jpg")
    for name in ("images/link.jpg", "link", "images/folder/o.jpg"):
        with pytest.raises(PhotoError, match="leaves the raw folder by a symbolic link"):
            found(shop, name)
        assert found(shop, name, follow=True) == "outside"
    assert found(shop, "o", follow=True) == "outside"
    with pytest.raises(MissingPhotoError):
        found(shop, "o")
    assert found(shop, "inner") == "a.jpg"
    for name in ("../outside/o.jpg", "images/../../outside/o.jpg", "..\\outside\\o.jpg", str(outside / "o.jpg")):
        for follow in (False, True):
            with pytest.raises(PhotoError, match="leaves the raw folder"):
                found(shop, name, follow)
    with pytest.raises(PhotoError, match="cannot be read"):
        found(shop, "images/loop.jpg", follow=True)


def test_more_files_than_the_index_holds(shop, monkeypatch, caplog):
    monkeypatch.setattr(photo_places, "MOST_INDEXED", 3)
    assert found(shop, "images/a.jpg") == "a.jpg"
    with pytest.raises(MissingPhotoError):
        found(shop, "a")
    assert "more than 3 files" in caplog.text


def test_photos_without_folder_and_extension_are_counted(raw, tmp_path):
    items = [{**row, "image": row["item_id"]} for row in raw.items()]
    (raw.folder / "images" / "second").mkdir()
    (raw.folder / "images" / "second" / "ITEM7.png").write_bytes(photo("PNG"))
    raw.write("items", items)
    raw.write("events", impression_log())
    ingested = raw.ingest(tmp_path / "out")
    assert ingested.facts.counts["photos_found_by_name"] == 7
    (reject,) = ingested.rejects()
    assert (reject["kind"], reject["row"]) == ("photo", 8)
    assert "images/item7.jpg, images/second/ITEM7.png" in reject["reason"]


@pytest.mark.parametrize(
    "address, hint",
    [
        ("https://shop.example/img/two%20words.jpg?w=8", "the file that is there: images/two words.jpg"),
        ("https://shop.example/d.jpg", "images/other/d.jpg"),
        ("https://shop.example/a.png", ""),
        ("https://shop.example/", ""),
    ],
)
def test_a_photo_on_the_web_is_told_beside_a_file_of_its_name(shop, address, hint):
    with pytest.raises(MissingPhotoError, match="run `courier download") as refused:
        found(shop, address)
    assert hint in str(refused.value) and ("that is there" in str(refused.value)) == bool(hint)
