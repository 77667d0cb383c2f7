"""Downloads from a server of this machine that does what servers do: busy, slow, broken, huge, no photo, cut off."""

import http.server
import json
import threading
import time

import pytest

from beam_jobs import downloads
from beam_jobs.downloads import DownloadError, Limits, download, file_of
from beam_jobs.photo_places import MissingPhotoError, PhotoPlaces
from courier_tf.commands.program import main
from tests.beam_jobs.conftest import impression_log, photo

PHOTO = photo("JPEG")
LIMITS = {"connections": 3, "delay_seconds": 0.0, "timeout_seconds": 5.0, "attempts": 3, "most_bytes": 100_000}


class Server(http.server.ThreadingHTTPServer):
    """Remembers what it was asked: (path, time of the start, User-Agent)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked, self.lock, self.at_once, self.most_at_once = [], threading.Lock(), 0, 0

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}{path}"

    def times(self, path):
        return [start for asked, start, _ in self.asked if asked == path]


class Answers(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        with self.server.lock:
            self.server.asked.append((self.path, time.monotonic(), self.headers["User-Agent"]))
            self.server.at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.at_once)
            attempt = len(self.server.times(self.path))
        try:
            getattr(self, self.path.strip("/").split("/")[0])(attempt)
        except (BrokenPipeError, ConnectionResetError):
            pass  # The client has given up.
        finally:
            with self.server.lock:
                self.server.at_once -= 1

    def answer(self, status=200, body=PHOTO, length=None, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": str(length or len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def ok(self, _):
        time.sleep(0.02)
        self.answer()

    def busy(self, attempt):
        self.answer(*([429, b""] if attempt == 1 else [200, PHOTO]), Retry_After="1")

    def closed(self, _):
        self.answer(503, b"", Retry_After="86400")

    def flaky(self, attempt):
        self.answer(*([500, b""] if attempt < 3 else [200, PHOTO]))

    def down(self, _):
        self.answer(500, b"")

    def gone(self, _):
        self.answer(404, b"<html>not here</html>")

    def page(self, _):
        self.answer(200, b"<!DOCTYPE html><html>Please log in</html>", Content_Type="image/jpeg")

    def empty(self, _):
        self.answer(200, b"")

    def cut(self, attempt):
        self.answer(200, PHOTO[:100] if attempt == 1 else PHOTO, length=len(PHOTO))
        self.close_connection = True

    def huge(self, _):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(PHOTO * 100)

    def slow(self, _):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"\xff")
            time.sleep(0.05)

    def moved(self, _):
        self.answer(302, b"", Location="/ok/moved")

    def circle(self, _):
        self.answer(302, b"", Location="/circle")

    def elsewhere(self, _):
        self.answer(302, b"", Location="file:///etc/hostname")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def downloaded(server, raw, paths, **changes):
    """(outcome, reason of each path that failed) of a download."""
    limits = Limits(**{**LIMITS, "user_agent": "test", "first_wait_seconds": 0.02, **changes})
    outcome = download(raw, [server.url(path) for path in paths], limits)
    return outcome, {failure.url.removeprefix(server.url("")): failure.reason for failure in outcome.failures}


def test_every_fault_has_its_own_end(server, tmp_path):
    faults = {
        "/down": "status 500, 3 times",
        "/closed": "status 503, and the server asks to wait 86400 s",
        "/gone": "status 404",
        "/page": "the answer is an HTML page, no photo that is read",
        "/empty": "the answer is empty, no photo that is read",
        "/huge": "more than 100000 bytes",
        "/circle": "TooManyRedirects",
        "/elsewhere": "InvalidSchema",
    }
    good = ["/ok/1", "/flaky", "/cut", "/moved", "/ok/2?w=100&h=3"]
    outcome, reasons = downloaded(server, tmp_path, [*faults, *good])
    assert (outcome.there, outcome.downloaded) == (0, len(good))
    assert reasons.keys() == faults.keys() and all(faults[path] in reasons[path] for path in faults), reasons
    for path in good:
        assert (tmp_path / file_of(server.url(path))).read_bytes() == PHOTO
    assert sorted(file.name for file in (tmp_path / downloads.FOLDER).iterdir() if file.name[0] != ".") == sorted(
        file_of(server.url(path)).rpartition("/")[2] for path in good
    )
    assert not list((tmp_path / downloads.FOLDER).glob("*.part"))
    asked = {path: len(server.times(path)) for path in (*faults, *good)}
    assert asked["/down"] == asked["/flaky"] == 3 and asked["/cut"] == 2 and asked["/circle"] == 6
    assert asked["/gone"] == asked["/page"] == asked["/closed"] == 1, "asking again would not help"
    assert {agent for _, _, agent in server.asked} == {"test"}


def test_it_goes_on_where_it_was_ended(server, tmp_path):
    paths = [f"/ok/{number}" for number in range(6)]
    downloaded(server, tmp_path, paths[:3])
    half = tmp_path / file_of(server.url(paths[4]))
    half.with_name(f".{half.name}.part").write_bytes(PHOTO[:50])
    first = len(server.asked)
    outcome, reasons = downloaded(server, tmp_path, paths)
    assert (outcome.there, outcome.downloaded, reasons) == (3, 3, {})
    assert {path for path, _, _ in server.asked[first:]} == set(paths[3:]) and half.read_bytes() == PHOTO
    assert not list((tmp_path / downloads.FOLDER).glob("*.part"))


def test_a_slow_answer_ends_in_time(server, tmp_path):
    """Also where a byte arrives again and again."""
    start = time.monotonic()
    _, reasons = downloaded(server, tmp_path, ["/slow"], timeout_seconds=0.3, attempts=2)
    assert "2 times" in reasons["/slow"] and time.monotonic() - start < 3


def test_a_busy_host_is_left_alone(server, tmp_path):
    """For the time that it asks for, by all connections."""
    _, reasons = downloaded(server, tmp_path, ["/busy", *(f"/ok/{number}" for number in range(8))], connections=1)
    assert not reasons
    first, second = server.times("/busy")
    assert second - first >= 0.95
    assert not [start for path, start, _ in server.asked if path != "/busy" and first < start < first + 0.95]


def test_few_connections_and_a_pause(server, tmp_path):
    downloaded(server, tmp_path, [f"/ok/{number}" for number in range(12)], connections=2, delay_seconds=0.05)
    starts = sorted(start for _, start, _ in server.asked)
    assert server.most_at_once <= 2 and starts[-1] - starts[0] >= 0.05 * 11 - 0.04


def test_a_host_that_does_not_answer(tmp_path):
    limits = Limits(**{**LIMITS, "user_agent": "test", "first_wait_seconds": 0.01})
    urls = ["http://127.0.0.1:9/a.jpg", "http://[broken/a.jpg", "http://127.0.0.1:99999/a.jpg", "https:///a.jpg"]
    outcome = download(tmp_path, urls, limits)
    assert [failure.url for failure in outcome.failures] == urls


def test_limits():
    for changes in ({"attempts": 0}, {"connections": 0}, {"timeout_seconds": float("nan")}, {"delay_seconds": -1.0}):
        with pytest.raises(DownloadError, match=next(iter(changes))):
            Limits(**{**LIMITS, "user_agent": "test", **changes})


def test_the_command_and_what_ingest_reads(server, raw, capsys):
    items = raw.items()
    items[0]["image"], items[1]["image"], items[2]["image"] = (server.url(path) for path in ("/ok/a", "/gone", "/ok/a"))
    raw.write("items", items)
    raw.write("events", impression_log())
    places = PhotoPlaces(str(raw.folder), False)
    with pytest.raises(MissingPhotoError, match=r"run `courier download .*`"):
        places.read(items[0]["image"])
    with pytest.raises(SystemExit) as ended:
        main(["download", str(raw.folder), "--delay-seconds", "0"])
    assert ended.value.code == 1
    assert places.read(items[0]["image"]).content == PHOTO
    assert "2 photos of items have a web address: 0 were there, 1 were downloaded, 1 failed" in capsys.readouterr().out
    failures = raw.folder / "download_failures.jsonl"
    assert [json.loads(line) for line in failures.read_text().splitlines()] == [
        {"url": server.url("/gone"), "reason": "status 404"}
    ]
    items[1]["image"] = server.url("/ok/b")
    raw.write("items", items)
    main(["download", str(raw.folder)])
    assert failures.read_text() == ""
