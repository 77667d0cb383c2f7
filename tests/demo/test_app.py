"""What the page is answered."""

import io

import pytest

from courier_tf.demo.app import create_app
from courier_tf.demo.ranked import ranked
from serving.client import CourierClient


def test_the_page_and_its_files(browser):
    page = browser.get("/")
    assert page.status_code == 200 and "What would this user click?" in page.text
    assert (
        "'self'" in page.headers["Content-Security-Policy"] and "unsafe" not in page.headers["Content-Security-Policy"]
    )
    for name in ("static/page.js", "static/page.css"):
        assert name in page.text and browser.get(f"/{name}", buffered=True).status_code == 200


def test_page_views_are_those_of_the_log(browser, shop):
    views = browser.get("/views").json["views"]
    assert len(views) == len(shop.views) > 3
    for view in views:
        assert len(view["candidates"]) == len(view["clicked"]) and any(view["clicked"])
        assert {item["id"] for item in view["items"].values()} == set(view["history"] + view["candidates"])


def test_photos(browser, shop):
    with_photo = next(item for item in shop.items.ids.tolist() if shop.photos.read(item))
    answer = browser.get("/photo", query_string={"item": with_photo.decode()})
    assert answer.mimetype == "image/png" and answer.data == shop.photos.read(with_photo)
    assert browser.get("/photo", query_string={"item": "nowhere"}).status_code == 404


def test_a_search_gives_the_items_with_the_words(browser, shop):
    items, wanted = shop.items, shop.items.columns["category"][0].decode()
    shown = {
        name.decode(): int(impressions)
        for name, title, category, impressions in zip(
            items.ids, items.titles, items.columns["category"], items.impressions, strict=True
        )
        if any(wanted.lower() in text.decode().lower() for text in (name, title, category))
    }
    ids = browser.get("/search", query_string={"words": wanted.upper()}).json["ids"]
    assert ids and set(ids) <= set(shown)
    assert [shown[item] for item in ids] == sorted(shown.values(), reverse=True)[:24]
    assert browser.get("/search?words=no-such-words").json["ids"] == []


def test_a_ranking(browser, client, shop):
    view = shop.views[0]
    asked = {"user": view.user, "history": view.history, "candidates": view.candidates}
    answer = browser.post("/rank", json=asked).json["ranked"]
    expected = ranked(client, view.user, view.history, view.candidates, compare=True)
    assert [place["item"] for place in answer] == [place.item for place in expected]
    assert [place["effects"] for place in answer] == [place.effects for place in expected]


def test_items_beyond_the_rankers_history_have_no_effect(browser, client, shop):
    view, length = shop.views[0], shop.history_length
    old = [item.decode() for item in shop.items.ids[: 60 - length]]
    history = (old + view.history * length)[-60:]
    answer = browser.post("/rank", json={"user": view.user, "history": history, "candidates": view.candidates}).json
    expected = ranked(client, view.user, history[-length:], view.candidates, compare=True)
    for place, alone in zip(answer["ranked"], expected, strict=True):
        assert place["effects"] == [0.0] * (60 - length) + alone.effects


@pytest.mark.parametrize(
    "asked, reason",
    [
        ([], "'user' must be a text"),
        ({"user": 1, "history": [], "candidates": ["a"]}, "'user' must be a text"),
        ({"user": "u", "history": "a", "candidates": ["a"]}, "'history' must be a list of item ids"),
        ({"user": "u", "history": [], "candidates": [1]}, "'candidates' must be a list of item ids"),
        ({"user": "u", "history": [], "candidates": []}, "'candidates' is empty"),
        ({"user": "u", "history": ["a"] * 65, "candidates": ["a"]}, "'history' has 65 items, more than 64"),
    ],
)
def test_a_request_that_the_page_does_not_make_is_refused(browser, asked, reason):
    answer = browser.post("/rank", json=asked)
    assert (answer.status_code, answer.json) == (400, {"error": reason})


@pytest.mark.slow
def test_a_photo_is_nearest_to_its_own_item(browser, shop, client):
    item = next(item for item in shop.items.ids.tolist() if shop.photos.read(item))
    answer = browser.post("/similar", data={"photo": (io.BytesIO(shop.photos.read(item)), "a.png")}).json
    assert answer["cosines"] == sorted(answer["cosines"], reverse=True)
    assert answer["cosines"][0] == pytest.approx(1, abs=1e-3)
    assert answer["cluster"] == int(client.embed([shop.photos.read(item)]).cluster_id[0])
    members = {name.decode() for name in shop.items.ids[shop.cluster == answer["cluster"]]}
    assert 0 < len(answer["members"]) == min(12, len(members)) and set(answer["members"]) <= members


@pytest.mark.parametrize(
    "content, reason", [(b"", "empty"), (b"no photo", "unknown format"), (b"\x89PNG\r\n\x1a\nxx", "broken")]
)
def test_a_photo_that_cannot_be_used_is_named(browser, content, reason):
    answer = browser.post("/similar", data={"photo": (io.BytesIO(content), "a.png")})
    assert (answer.status_code, answer.json["error"]) == (400, f"the photo cannot be used: {reason}")


def test_no_photo_and_too_large_a_photo(browser, monkeypatch):
    assert browser.post("/similar").json["error"] == "there is no file 'photo'"
    browser.application.config["MAX_CONTENT_LENGTH"] = 1000
    answer = browser.post("/similar", data={"photo": (io.BytesIO(bytes(2000)), "a.png")})
    assert answer.status_code == 413 and "error" in answer.json


def test_a_server_that_does_not_answer_is_told(shop):
    with CourierClient("localhost:1", timeout_seconds=0.5) as nobody:
        browser = create_app(shop, nobody, "work", compare=False).test_client()
        answer = browser.post("/rank", json={"user": "u", "history": [], "candidates": ["a"]})
    assert answer.status_code == 502 and answer.json["error"].startswith("the model server does not answer: ")


def test_a_name_is_shown_as_text(shop, client):
    page = create_app(shop, client, "<script>alert(1)</script>", compare=False).test_client().get("/").text
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
