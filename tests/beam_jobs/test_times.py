"""Timestamps are read in the one form that they can have; what is ambiguous names the option."""

import datetime
import random
import re
import time
import zoneinfo

import pytest

from beam_jobs.raw_errors import RawDataError
from beam_jobs.time_recognition import recognise
from beam_jobs.times import TimeError, TimeForm, TimeParser, any_time

SECONDS = [1_600_028_693 + 7_919 * number for number in range(50)]
SCALES = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}


def moments(zone=datetime.UTC):
    return [datetime.datetime.fromtimestamp(second, zone) for second in SECONDS]


def read(texts: list[str], given: str = "auto", zone: str = "UTC") -> list[int]:
    form = recognise(texts, "f.csv, column 't'", given, zone)
    return [TimeParser(form)(text) for text in texts]


@pytest.mark.parametrize("unit", SCALES)
def test_units_that_are_recognised(unit):
    texts = [str(second * SCALES[unit] + SCALES[unit] // 3) for second in SECONDS]
    assert str(recognise(texts, "", "auto", "UTC")) == f"{unit} since 1970"
    assert read(texts) == read(texts, unit) == SECONDS
    assert read([f" {text} " for text in texts]) == SECONDS


@pytest.mark.parametrize("shape", ["{}.75", "{}.0", "{:.9e}"])
def test_fractions_and_exponents_of_seconds(shape):
    texts = [shape.format(float(second) if "e" in shape else second) for second in SECONDS]
    assert read(texts) == SECONDS


@pytest.mark.parametrize(
    "shape",
    [
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%d %H:%M:%S",
        "%Y-%m-%d %H:%M:%S UTC",
        "%Y/%m/%d %H:%M:%S",
        "%Y-%m-%dT%H:%M:%S.123456789+00:00",
        "%Y%m%dT%H%M%S",
    ],
)
def test_iso_8601(shape):
    assert read([moment.strftime(shape) for moment in moments()]) == SECONDS


def test_time_zones():
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    local = [str(moment.replace(tzinfo=None)) for moment in moments(berlin)]
    assert read(local, zone="Europe/Berlin") == SECONDS
    assert read(local) == [second + 7200 for second in SECONDS]
    assert read([moment.isoformat() for moment in moments(berlin)], zone="Asia/Tokyo") == SECONDS
    assert read(["2020-09-13"], zone="Europe/Berlin") == [1_599_948_000]
    parser = TimeParser(TimeForm("iso", "Europe/Berlin"))
    assert parser("2020-10-25 02:30:00") == 1_603_585_800, "the first of two"


@pytest.mark.parametrize("unit, scale", [("minutes", 60), ("hours", 3600), ("days", 86_400)])
def test_coarse_units_are_refused_with_the_option(unit, scale):
    texts = [str(second // scale) for second in SECONDS]
    with pytest.raises(RawDataError, match=rf"f.csv, column 't': {texts[0]} would be 1970-.*timestamp-format {unit}"):
        read(texts)
    assert read(texts, unit) == [second // scale * scale for second in SECONDS]


@pytest.mark.parametrize(
    "pattern",
    [
        "%Y%m%d",
        "%Y%m%d%H",
        "%Y%m%d%H%M",
        "%Y%m%d%H%M%S",
        "%y%m%d%H%M",
        "%d%m%Y",
        "%y%m%d",
        "%y%m%d%H%M%S",
        "%d.%m.%Y %H:%M",
        "%m/%d/%Y %H:%M:%S",
    ],
)
def test_patterns_are_refused_with_the_option(pattern):
    texts = [moment.strftime(pattern) for moment in moments()]
    with pytest.raises(RawDataError) as refused:
        read(texts)
    assert f"--timestamp-format {pattern}" in str(refused.value).replace("'", "")
    expected = [datetime.datetime.strptime(text, pattern).replace(tzinfo=datetime.UTC).timestamp() for text in texts]
    assert read(texts, pattern) == expected


def test_dates_that_pass_for_seconds_are_refused():
    texts = [datetime.datetime(2016, 9, 13 + day, 20, 24).strftime("%y%m%d%H%M") for day in range(9)]
    with pytest.raises(RawDataError, match=r"2020-12-28 .* in seconds, and 2016-09-13 20:24.*--timestamp-format"):
        read(texts)
    assert read(texts, "seconds") == [int(text) for text in texts]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("1.6E+09", "lost its last digits"),
        ("1.60003E+12", "lost its last digits"),
        ("44087.5", "spreadsheet"),
        ("874724710", "--timestamp-format seconds"),
        ("yesterday", "neither a number"),
        ("132444234234234234", "no unit gives"),
        ("-5", "no unit gives"),
    ],
)
def test_what_has_no_form(text, reason):
    with pytest.raises(RawDataError, match=reason):
        read([text] * 9)


def test_iso_dates_before_2000_are_plain():
    assert read(["1998-10-06 00:00:00", "1998-10-07 00:00:00"]) == [907_632_000, 907_718_400]
    with pytest.raises(RawDataError, match="1970-01-19.* lies before 1990; .*--timestamp-format iso"):
        read(["1970-01-19 03:14:07"] * 9)
    assert read(["1970-01-19 00:00:00"], "iso") == [18 * 86_400]
    with pytest.raises(RawDataError, match="2199-01-01 lies in the future$"):
        read(["2199-01-01"] * 9)


def test_rows_that_do_not_fit_are_rejects():
    form = recognise([*map(str, SECONDS), "oops", "5"], "", "auto", "UTC")
    parser = TimeParser(form, latest=SECONDS[-1])
    reasons = {
        "1600028693000": "milliseconds",
        str(SECONDS[-1] + 1): "future",
        "5": "not after 2000",
        "x": "not a number",
        "9" * 400: "milliseconds",
        "-1": "not after",
        "nan": "not a number",
        "": "is empty",
    }
    for text, reason in reasons.items():
        with pytest.raises(TimeError, match=reason):
            parser(text)
    assert TimeParser(TimeForm("seconds"))("5") == 5


@pytest.mark.parametrize(
    "pattern, text",
    [
        ("%a, %d %b %Y %H:%M:%S %Z", "Sun, 13 Sep 2020 20:24:53 GMT"),
        ("%Y-%m-%d %H:%M:%S %Z", "2020-09-13 20:24:53 UTC"),
        ("%Y-%m-%dT%H:%M:%SZ", "2020-09-13T20:24:53Z"),
        ("%d.%m.%Y %H:%M:%S UTC", "13.09.2020 20:24:53 UTC"),
        ("%d.%m.%Y %H:%M:%S+00:00", "13.09.2020 20:24:53+00:00"),
        ("%a, %d %b %Y %H:%M:%S %z", "Sun, 13 Sep 2020 22:24:53 +0200"),
    ],
)
def test_a_zone_in_the_text_counts_whatever_the_settings_and_the_machine_say(pattern, text, monkeypatch):
    monkeypatch.setattr(time, "tzname", ("CET", "CEST"))
    assert TimeParser(TimeForm(pattern, "Europe/Berlin"))(text) == 1600028693
    with pytest.raises(TimeError, match="is not of the form"):
        TimeParser(TimeForm(pattern))(text.replace("GMT", "CET").replace("UTC", "CET").replace("Z", "CET") + "CET")


def test_the_way_out_is_one_that_reads_the_text():
    """Each message names patterns; each of them reads what the message is about, and gives the same moment."""
    texts = ["20200913.0", "13.09.2020, 20:24", "13.09.20 20:24", "2020/9/13 20:24", "2020-09-13 08:24 PM"]
    texts += ["Sun, 13 Sep 2020 20:24:53 +0000", "2020-09-13-20.24.53.123456", "13-Sep-20 08.24.53.000000 PM"]
    for text in texts:
        with pytest.raises(RawDataError) as refused:
            recognise([text], "", "auto", "UTC")
        way = str(refused.value).partition("--timestamp-format ")[2]
        patterns = re.findall(r"'(%[^']+)'", way) or re.findall(r"^%\w[^ ,]*", way)
        assert patterns, str(refused.value)
        for pattern in patterns:
            assert datetime.date.fromtimestamp(TimeParser(TimeForm(pattern))(text)) == datetime.date(2020, 9, 13)
    with pytest.raises(RawDataError, match="seconds since 1970 are read by --timestamp-format seconds"):
        recognise(["1600028693"], "", "%s", "UTC")


def test_no_text_breaks_the_parser():
    rng = random.Random(0)
    for _ in range(3000):
        text = "".join(rng.choice("0123456789-:TZ+./eE \0é\u0663") for _ in range(rng.randrange(24)))
        for form in ("seconds", "nanoseconds", "days", "iso", "%Y%m%d"):
            try:
                assert isinstance(TimeParser(TimeForm(form))(text), int)
            except TimeError as error:
                assert "\n" not in str(error) and "\0" not in str(error)
        any_time(text)


def test_dates_of_a_catalogue_are_read_one_by_one():
    texts = ["0", "1970-01-01", "1599955200", "1599955200000", "2020-09-01 00:00:00", "1.6e9", "20200913", "soon"]
    assert [any_time(text) for text in texts] == [
        None,
        None,
        1599955200,
        1599955200,
        1598918400,
        1600000000,
        None,
        None,
    ]
