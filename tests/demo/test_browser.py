"""The page in Chromium, as a person uses it. Without Chromium and its driver these tests are skipped."""

import shutil
import threading

import pytest
from werkzeug.serving import make_server

from courier_tf.demo.app import create_app
from courier_tf.demo.ranked import ranked

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs Debian's chromium and chromium-driver"),
]
FLAGS = ["headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking", "disable-sync"]
WAIT_SECONDS = 30


@pytest.fixture(scope="module")
def address(shop, client):
    server = make_server("localhost", 0, create_app(shop, client, "work", compare=True), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=[360, 768, 1280])
def page(request, address):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    with webdriver.Chrome(options, webdriver.ChromeService(DRIVER)) as driver:
        size = {"width": request.param, "height": 900, "deviceScaleFactor": 1, "mobile": request.param < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(address)
        yield Page(driver)
        assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []


class Page:
    """What a person does and sees."""

    def __init__(self, driver):
        self.driver = driver

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def wait_for(self, condition):
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, WAIT_SECONDS).until(lambda _: condition())

    def ranking(self):
        """(alt of the photo, texts) of the candidates in their order."""
        return self.driver.execute_script(
            "return [...document.querySelectorAll('#ranking li')].map((li) => li.querySelector('.effect').textContent)"
        )

    def press(self, selector):
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", self.all(selector)[0])
        self.all(selector)[0].click()


def expected(client, view, history):
    places = ranked(client, view.user, history, view.candidates, compare=True)
    return [f"{place}. {100 * candidate.probability:.1f} %" for place, candidate in enumerate(places, start=1)]


def test_the_ranking_follows_the_history(page, shop, client):
    view = shop.views[0]
    page.wait_for(page.ranking)
    assert page.ranking() == expected(client, view, view.history)
    assert page.driver.execute_script(
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    page.press("#history li button")
    page.wait_for(lambda: page.ranking() == expected(client, view, view.history[1:]))
    page.press("#reset")
    page.wait_for(lambda: page.ranking() == expected(client, view, view.history))


@pytest.mark.parametrize("page", [768, 1280], indirect=True)
def test_an_item_is_dragged_into_the_history(page, shop, client):
    """On a phone nothing can be dragged; the button is for phones and keyboards."""
    from selenium.webdriver import ActionChains

    view = shop.views[0]
    page.wait_for(page.ranking)
    last = ranked(client, view.user, view.history, view.candidates, compare=True)[-1].item
    dragged = page.all("#ranking li img, #ranking li .bare")[-1]
    page.driver.execute_script("document.querySelector('#history').scrollIntoView({block: 'end'})")
    before = len(page.all("#history li"))
    ActionChains(page.driver).drag_and_drop(dragged, page.all("#history")[0]).perform()
    page.wait_for(lambda: len(page.all("#history li")) == before + 1)
    page.wait_for(lambda: page.ranking() == expected(client, view, [*view.history, last]))


def test_an_item_is_added_by_its_button(page, shop, client):
    view = shop.views[0]
    page.wait_for(page.ranking)
    first = ranked(client, view.user, view.history, view.candidates, compare=True)[0].item
    page.press("#ranking li button:last-child")
    page.wait_for(lambda: page.ranking() == expected(client, view, [*view.history, first]))


def test_reasons_of_a_candidate(page, shop, client):
    view = shop.views[0]
    page.wait_for(page.ranking)
    assert page.all("#history .effect") == []
    page.press("#ranking li button")
    first = ranked(client, view.user, view.history, view.candidates, compare=True)[0]
    shown = [element.text for element in page.wait_for(lambda: page.all("#history .effect"))]
    assert shown == [f"{'+' if effect >= 0 else '−'}{abs(effect):.2f}" for effect in first.effects]


def test_a_photo_is_uploaded(page, shop, tmp_path):
    item = next(item for item in shop.items.ids.tolist() if shop.photos.read(item))
    (tmp_path / "photo.png").write_bytes(shop.photos.read(item))
    page.wait_for(page.ranking)
    page.all("#file")[0].send_keys(str(tmp_path / "photo.png"))
    page.wait_for(lambda: page.all("#nearest li"))
    assert "cosine 1.000" in page.all("#nearest li")[0].text
    (tmp_path / "none.png").write_bytes(b"no photo")
    page.all("#file")[0].send_keys(str(tmp_path / "none.png"))
    page.wait_for(lambda: "unknown format" in page.all("#message")[0].text)
    page.driver.get_log("browser")  # Chromium tells of the answer 400.
