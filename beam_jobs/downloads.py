"""Fetches the photos that a catalogue names by http:// and https://, politely, and goes on where it was ended.

Each photo becomes a file of the raw folder whose name is a hash of its address. The ingest job reads it from there.
"""

import dataclasses
import email.utils
import hashlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import requests
import urllib3

from beam_jobs.formats import rows_of
from beam_jobs.photo_formats import PHOTOS, format_of
from beam_jobs.photo_names import first_of, is_web_address
from beam_jobs.raw_rows import RawFile, RawRow
from beam_jobs.values import stripped
from courier_tf.images import PhotoError
from courier_tf.progress import Progress
from courier_tf.workdir.atomic import exclusive
from serving.client.timed_session import timed_session

LOG = logging.getLogger(__name__)

FOLDER = "images/downloaded"  # Below the raw folder.
HOSTS = 8  # As many are asked at a time.
MOST_REDIRECTS = 5
RETRIED = (408, 429, 500, 502, 503, 504)  # The status codes after which another attempt may succeed.
LONGEST_WAIT = 120.0  # Seconds. A server that asks for more is not asked again.
_CHUNK = 1 << 16
_HOPELESS = (
    requests.TooManyRedirects,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidHeader,
)


class DownloadError(ValueError):
    """Photos cannot be downloaded as the arguments say."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """How hosts are asked.

    Attributes:
        connections: connections to one host at a time.
        delay_seconds: time from the start of a request to the start of the next one to the same host.
        timeout_seconds: for one answer, from the connection to the last byte.
        attempts: how often a photo is asked for.
        first_wait_seconds: the wait before the second attempt; it doubles each time.
        most_bytes: a larger answer is given up.
        user_agent: who asks.
    """

    connections: int
    delay_seconds: float
    timeout_seconds: float
    attempts: int
    most_bytes: int
    user_agent: str
    first_wait_seconds: float = 1.0

    def __post_init__(self) -> None:
        for name in ("connections", "timeout_seconds", "attempts", "most_bytes"):
            if not getattr(self, name) > 0:
                raise DownloadError(f"{name} must be above 0, but is {getattr(self, name)}")
        if not self.delay_seconds >= 0:
            raise DownloadError(f"delay_seconds must be at least 0, but is {self.delay_seconds}")


@dataclasses.dataclass(frozen=True)
class Failure:
    """A photo that was not downloaded."""

    url: str
    reason: str


@dataclasses.dataclass
class Outcome:
    """What became of the addresses of a catalogue."""

    there: int = 0
    downloaded: int = 0
    failures: list[Failure] = dataclasses.field(default_factory=list)


class _Again(Exception):
    """An attempt failed, and another may succeed: the reason, and the seconds that the server asks to wait."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


def file_of(url: str) -> str:
    """The path of a downloaded photo below the raw folder.

    >>> file_of("https://shop.example/a.jpg")
    'images/downloaded/d5391c65ed48988d9f52d12941cf4a5f'
    """
    return f"{FOLDER}/{hashlib.sha256(url.encode(errors='surrogatepass')).hexdigest()[:32]}"


def addresses(files: Iterable[RawFile]) -> list[str]:
    """The web addresses that the items of a catalogue name, each once, in the order of the rows."""
    rows = itertools.chain.from_iterable(map(rows_of, files))
    images = (first_of(stripped(row.fields.get("image", ""))) for row in rows if isinstance(row, RawRow))
    return list(dict.fromkeys(image for image in images if is_web_address(image)))


def download(raw: Path, urls: Sequence[str], limits: Limits) -> Outcome:
    """Downloads the photos that are not there yet.

    Args:
        raw: the raw folder, on this machine.
        urls: web addresses, each once.
        limits: how hosts are asked.

    Returns:
        How many were there, how many have come, and what failed, in the order of the addresses.
    """
    (raw / FOLDER).mkdir(parents=True, exist_ok=True)
    with exclusive(raw / FOLDER / ".lock", f"Another process downloads into {raw}: waiting for it"):
        for left_over in (raw / FOLDER).glob(".*.part"):
            left_over.unlink()
        missing = [url for url in urls if not (raw / file_of(url)).is_file()]
        by_host: dict[str, list[str]] = {}
        for url in missing:
            by_host.setdefault(url.partition("://")[2].partition("/")[0].lower(), []).append(url)
        LOG.info(
            "%d photos of %d hosts to download, %d are there", len(missing), len(by_host), len(urls) - len(missing)
        )
        with timed_session() as session:
            session.max_redirects = MOST_REDIRECTS
            session.headers["User-Agent"] = limits.user_agent
            progress = Progress("download", len(missing), "photos")
            hosts = [_Host(raw, of_host, limits, session, progress) for of_host in by_host.values()]
            with ThreadPoolExecutor(HOSTS) as pool:
                reasons = dict(itertools.chain.from_iterable(pool.map(_Host.download, hosts)))
    failures = [Failure(url, reasons[url]) for url in missing if reasons[url]]
    return Outcome(len(urls) - len(missing), len(missing) - len(failures), failures)


class _Host:
    """The photos of one host. Its threads share one clock, so that a host that asks to wait is left alone."""

    def __init__(
        self, raw: Path, urls: Sequence[str], limits: Limits, session: requests.Session, progress: Progress
    ) -> None:
        self.raw, self.urls, self.limits, self.session, self.progress = raw, urls, limits, session, progress
        self._clock = threading.Lock()
        self._next = 0.0  # No request starts before this time.

    def download(self) -> list[tuple[str, str]]:
        """(address, reason of its failure, "" where it is there) of each photo."""
        with ThreadPoolExecutor(self.limits.connections) as pool:
            return list(zip(self.urls, pool.map(self._photo, self.urls), strict=True))

    def _photo(self, url: str) -> str:
        reason = self._attempted(url)
        self.progress.advance()
        return reason

    def _attempted(self, url: str) -> str:
        """The reason why a photo is not there after all attempts; empty where it is."""
        for attempt in range(self.limits.attempts):
            self._wait_for_turn()
            try:
                self._keep(url, self._fetched(url))
                return ""
            except _Again as error:
                reason, wait = str(error), error.wait or self.limits.first_wait_seconds * 2.0 ** min(attempt, 10)
                if error.wait > LONGEST_WAIT:
                    return f"{reason}, and the server asks to wait {error.wait:.0f} s"
                if attempt + 1 < self.limits.attempts:
                    self._leave_alone(min(wait, LONGEST_WAIT))
            except PhotoError as error:
                return str(error)
        return f"{reason}, {self.limits.attempts} times"

    def _wait_for_turn(self) -> None:
        with self._clock:
            start = max(self._next, time.monotonic())
            self._next = start + self.limits.delay_seconds
        time.sleep(max(0.0, start - time.monotonic()))

    def _leave_alone(self, seconds: float) -> None:
        with self._clock:
            self._next = max(self._next, time.monotonic() + seconds)

    def _fetched(self, url: str) -> bytes:
        timeout = urllib3.Timeout(total=self.limits.timeout_seconds)
        try:
            with self.session.get(url, stream=True, timeout=timeout) as answer:  # type: ignore[arg-type]  # urllib3 takes it
                if answer.status_code in RETRIED:
                    raise _Again(f"status {answer.status_code}", _retry_after(answer.headers.get("Retry-After", "")))
                if answer.status_code != 200:
                    raise PhotoError(f"status {answer.status_code}")
                content = self._content(answer.iter_content(_CHUNK))
        except _HOPELESS as error:
            raise PhotoError(f"{type(error).__name__}: {error}") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise _Again(f"{type(error).__name__}: {error}") from error
        except ValueError as error:  # An address that no library takes apart, such as one with a broken port.
            if isinstance(error, PhotoError):
                raise
            raise PhotoError(f"{type(error).__name__}: {error}") from error
        kind = format_of(content)
        if kind not in PHOTOS:
            raise PhotoError(f"the answer is {kind}, no photo that is read")
        return content

    def _content(self, chunks: Iterator[bytes]) -> bytes:
        content = bytearray()
        for chunk in chunks:
            content += chunk
            if len(content) > self.limits.most_bytes:
                raise PhotoError(f"it has more than {self.limits.most_bytes} bytes")
        return bytes(content)

    def _keep(self, url: str, content: bytes) -> None:
        target = self.raw / file_of(url)
        aside = target.with_name(f".{target.name}.part")
        aside.write_bytes(content)
        os.replace(aside, target)


def _retry_after(value: str) -> float:
    """Seconds that the header Retry-After asks to wait, as a number or a date (RFC 9110, 10.2.3); 0 where it asks none.

    >>> _retry_after("7"), _retry_after("Fri, 07 Jan 2000 12:00:00 GMT"), _retry_after("soon")
    (7.0, 0.0, 0.0)
    """
    if value.strip().isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
