"""One small shop, written as shops write theirs: in another format, encoding, unit of time, spelling at each draw.

A dialect says how the shop is written and which settings read it. All dialects hold the same items, events and
photos, so that ingest makes the same records of each.
"""

import bz2
import csv
import dataclasses
import datetime
import gzip
import io
import json
import zoneinfo
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

Row = dict[str, Any]
ITEMS, DAYS, USERS = 12, 6, 6
NIGHT = 1_600_041_600  # 2020-09-14, midnight (UTC).
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
WHITE = np.full(3, 255, np.uint8)
TITLES = ("Été", "Größe, blau", 'the "best" one', "naïve; very", "two\nlines", "two words", "ñ | o", "O'Neill")


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a shop writes its export. Each attribute is one choice; see `CHOICES`."""

    form: str = "csv"
    line_end: str = "\n"
    encoding: str = "utf-8"
    compression: str = "none"
    time: str = "seconds"
    names: str = "ours"
    label: str = "0/1"
    files: str = "one"
    photos: str = "png"
    nothing: str = ""
    ids: str = "text"
    quotes: str = "few"
    extra: str = "none"


#: Attribute of a dialect -> its choices; the first is that of the plain export.
CHOICES: dict[str, tuple[str, ...]] = {
    "form": ("csv", "semicolons", "tabs", "bars", "jsonl", "parquet", "avro"),
    "line_end": ("\n", "\r\n"),
    "encoding": ("utf-8", "utf-8-sig", "utf-16", "cp1252"),
    "compression": ("none", "gzip", "bzip2", "zstd"),
    "time": (
        "seconds", "float seconds", "milliseconds", "microseconds", "nanoseconds", "minutes", "iso Z", "iso offset",
        "iso blank", "iso Berlin", "pattern", "typed", "typed Berlin",
    ),
    "names": ("ours", "capitals", "blanks", "shop's"),
    "label": ("0/1", "true/false", "1.0/0.0", "event type"),
    "files": ("one", "three", "folder", "nested"),
    "photos": (
        "png", "png palette", "png rgba", "png turned", "webp", "webp rgba", "bmp", "tiff", "gif", "bare name", "bytes",
    ),
    "nothing": ("", "NULL", "NA", "nan", "None", "\\N", "N/A", "undefined", "null"),
    "ids": ("text", "numbers", "blanks"),
    "quotes": ("few", "all"),
    "extra": ("none", "columns", "line breaks"),
}  # fmt: skip
_DELIMITERS = {"csv": ",", "semicolons": ";", "tabs": "\t", "bars": "|"}
_EXTENSIONS = {"csv": "csv", "semicolons": "csv", "tabs": "tsv", "bars": "txt"}
TYPED = ("parquet", "avro")
_COMPRESSED = {"none": "", "gzip": ".gz", "bzip2": ".bz2", "zstd": ".zst"}
_SHOPS_NAMES = {
    "item_id": "ProductID", "image": "img_url", "category": "department", "title": "name", "user_id": "customer",
    "timestamp": "ts", "request_id": "pv", "clicked": "is_click", "event_type": "event",
}  # fmt: skip
_AVRO_CODECS = ("null", "deflate", "snappy", "zstandard", "bzip2", "xz")
_UNIT = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}


def draw(rng: np.random.Generator) -> Dialect:
    """A dialect that can exist: Parquet and Avro have no encoding."""
    chosen = {name: str(rng.choice(choices)) for name, choices in CHOICES.items()}
    if chosen["form"] in TYPED:
        chosen |= {"encoding": "utf-8", "compression": "none", "quotes": "few", "line_end": "\n"}
    elif chosen["form"] == "jsonl":
        chosen |= {"quotes": "few", "encoding": str(rng.choice(["utf-8", "utf-8-sig", "utf-16"]))}
    if chosen["form"] not in TYPED:
        if chosen["photos"] == "bytes":
            chosen["photos"] = "png"
        if chosen["time"].startswith("typed"):
            chosen["time"] = "iso Z"
    return Dialect(**chosen)


def items_and_events() -> tuple[list[Row], list[Row]]:
    """The shop itself: rows of the catalogue, with `pixels`, and of an impression log, in our own words."""
    rng = np.random.default_rng(5)
    items = [
        {
            "item_id": str(1000 + number),
            "category": "" if number == 3 else f"kind {number % 3}",
            "title": TITLES[number % len(TITLES)],
            "colour": "red" if number % 2 else "blue",
            # 16 colours, one of them white: any format without loss holds them, also one with a palette.
            "pixels": np.vstack([rng.integers(0, 255, [15, 3], np.uint8), [WHITE]])[rng.integers(0, 16, [16, 16])],
        }
        for number in range(ITEMS)
    ]
    events = [
        {
            "user_id": str(70_000 + user),
            "item_id": str(1000 + int(item)),
            "timestamp": NIGHT + day * 86_400 + 60 * int(rng.integers(1, 1400)),
            "request_id": f"r{day}-{user}",
            "clicked": int(rng.random() < 0.4),
        }
        for day in range(DAYS)
        for user in range(USERS)
        for item in rng.choice(ITEMS, 5, replace=False)
    ]
    of_page_view = {event["request_id"]: event["timestamp"] for event in events}
    return items, [event | {"timestamp": of_page_view[event["request_id"]]} for event in events]


def write(dialect: Dialect, raw: Path) -> dict[str, Any]:
    """Writes the shop in a dialect. Returns the settings that it takes to read it."""
    items, events = items_and_events()
    photos = _photos(dialect, items, raw)
    rows = [
        {"item_id": _id(dialect, item["item_id"]), "image": photo, "category": item["category"] or dialect.nothing}
        | {"title": item["title"], "colour": item["colour"]}
        for item, photo in zip(items, photos, strict=True)
    ]
    _write_table(dialect, raw, "items", rows, ("item_id", "image", "category", "title"))
    label = {"event type": "event_type"}.get(dialect.label, "clicked")
    log: list[Row] = []
    for event in events:
        ids = {name: _id(dialect, event[name]) for name in ("user_id", "item_id")}
        time = _time(dialect, event["timestamp"])
        row = ids | {"timestamp": time, "request_id": event["request_id"], label: _label(dialect, event["clicked"])}
        further = {"none": {}, "columns": {"device": "phone", "note": "a;b|c"}, "line breaks": {"note": "a,\nb"}}
        log.append(row | further[dialect.extra])
    _write_table(dialect, raw, "events", log, ("user_id", "item_id", "timestamp", "request_id", label))
    return _settings(dialect, label)


def _settings(dialect: Dialect, label: str) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if dialect.names == "shop's":
        ours = ("item_id", "image", "category", "title", "user_id", "timestamp", "request_id", label)
        settings["columns"] = tuple(f"{name}={_SHOPS_NAMES[name]}" for name in ours)
    if dialect.label == "event type":
        settings["positive_events"] = ("click",)
    if dialect.time == "minutes":
        settings["timestamp_format"] = "minutes"
    if dialect.time == "pattern":
        settings["timestamp_format"] = "%Y%m%d%H%M%S"
    if "Berlin" in dialect.time:
        settings["timezone"] = "Europe/Berlin"
    return settings


def _id(dialect: Dialect, text: str) -> Any:
    if dialect.ids == "numbers" and dialect.form in ("jsonl", *TYPED):
        return int(text)
    return f" {text} " if dialect.ids == "blanks" else text


def _label(dialect: Dialect, clicked: int) -> Any:
    if dialect.label == "event type":
        return "click" if clicked else "impression"
    if dialect.form in ("jsonl", *TYPED):
        return {"0/1": int, "true/false": bool, "1.0/0.0": float}[dialect.label](clicked)
    return {"0/1": str(clicked), "true/false": str(bool(clicked)), "1.0/0.0": f"{clicked:.1f}"}[dialect.label]


def _time(dialect: Dialect, second: int) -> Any:
    utc = datetime.datetime.fromtimestamp(second, datetime.UTC)
    local = utc.astimezone(BERLIN)
    if dialect.time in _UNIT:
        return second * _UNIT[dialect.time]
    makers: dict[str, Callable[[], Any]] = {
        "float seconds": lambda: second + 0.25,
        "minutes": lambda: second // 60,
        "iso Z": lambda: utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "iso offset": lambda: local.isoformat(),
        "iso blank": lambda: utc.strftime("%Y-%m-%d %H:%M:%S"),
        "iso Berlin": lambda: local.strftime("%Y-%m-%d %H:%M:%S"),
        "pattern": lambda: utc.strftime("%Y%m%d%H%M%S"),
        "typed": lambda: utc,
        "typed Berlin": lambda: local.replace(tzinfo=None),
    }
    return makers[dialect.time]()


def _photos(dialect: Dialect, items: list[Row], raw: Path) -> list[Any]:
    """Writes the photos; returns what stands in the column `image`."""
    folder = raw / "images"
    folder.mkdir(parents=True)
    named = []
    for item in items:
        encoded, extension = _encoded(dialect.photos, item["pixels"])
        if dialect.photos == "bytes":
            named.append(encoded)
            continue
        (folder / f"p{item['item_id']}.{extension}").write_bytes(encoded)
        bare = dialect.photos == "bare name"
        named.append(f"p{item['item_id']}" if bare else f"images/p{item['item_id']}.{extension}")
    return named


def _encoded(kind: str, pixels: np.ndarray) -> tuple[bytes, str]:
    """A photo without loss, and its extension."""
    image, out = Image.fromarray(pixels), io.BytesIO()
    if kind in ("png rgba", "webp rgba"):
        image = image.convert("RGBA")
        hidden = np.array(image)
        white = (pixels == WHITE).all(-1)
        hidden[white] = [7, 7, 7, 0]  # Where the photo is white, a colour that nobody sees.
        image = Image.fromarray(hidden)
    if kind == "png turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        image.transpose(Image.Transpose.ROTATE_90).save(out, "PNG", exif=exif)
        return out.getvalue(), "png"
    if kind in ("png palette", "gif"):
        image = image.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    name = {"webp": "WEBP", "webp rgba": "WEBP", "bmp": "BMP", "tiff": "TIFF", "gif": "GIF"}.get(kind, "PNG")
    image.save(out, name, **({"lossless": True, "exact": True} if name == "WEBP" else {}))
    return out.getvalue(), "jpg" if name in ("BMP", "TIFF", "GIF") else name.lower()  # Shops misname them.


def _write_table(dialect: Dialect, raw: Path, table: str, rows: list[Row], ours: tuple[str, ...]) -> None:
    rename = {name: _name(dialect, name) for name in ours}
    renamed = [{rename.get(name, name): value for name, value in row.items()} for row in rows]
    for file, part in _parts(dialect, raw, table, renamed):
        file.parent.mkdir(parents=True, exist_ok=True)
        if dialect.form == "parquet":
            pq.write_table(pa.Table.from_pylist(part), file)
        elif dialect.form == "avro":
            file.write_bytes(avro(part, codec=_AVRO_CODECS[len(part) % len(_AVRO_CODECS)]))
        else:
            file.write_bytes(_compressed(dialect, _text(dialect, part).encode(dialect.encoding)))


def avro(rows: list[Row], **settings: Any) -> bytes:
    """Rows as an Avro file, its types as those of the first row."""
    fields = [{"name": name, "type": ["null", _avro_type(value)]} for name, value in rows[0].items()]
    out = io.BytesIO()
    fastavro.writer(out, {"type": "record", "name": "row", "fields": fields}, rows, **settings)
    return out.getvalue()


def _avro_type(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return {"type": "long", "logicalType": f"{'' if value.tzinfo else 'local-'}timestamp-micros"}
    return {str: "string", bytes: "bytes", bool: "boolean", int: "long", float: "double"}[type(value)]


def _name(dialect: Dialect, name: str) -> str:
    blank = f" {name}\u00a0" if dialect.encoding != "cp1252" else f" {name} "
    return {"ours": name, "capitals": name.upper(), "blanks": blank, "shop's": _SHOPS_NAMES[name]}[dialect.names]


def _parts(dialect: Dialect, raw: Path, table: str, rows: list[Row]) -> list[tuple[Path, list[Row]]]:
    """The files of a table, each with its rows, in the order of the rows."""
    extension = _EXTENSIONS.get(dialect.form, dialect.form) + _COMPRESSED[dialect.compression]
    if dialect.files == "one":
        return [(raw / f"{table}.{extension}", rows)]
    cuts = np.array_split(np.arange(len(rows)), 3)
    parts = [[rows[place] for place in cut] for cut in cuts]
    names = {
        "three": "{table}-{part}.{extension}",
        "folder": "{table}/part-{part}.{extension}",
        "nested": "{table}/date=2020-09-1{part}/part-0.{extension}",
    }
    name = names[dialect.files]
    return [(raw / name.format(table=table, part=n, extension=extension), part) for n, part in enumerate(parts)]


def _text(dialect: Dialect, rows: list[Row]) -> str:
    if dialect.form == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + dialect.line_end for row in rows)
    out = io.StringIO()
    quoting = csv.QUOTE_ALL if dialect.quotes == "all" else csv.QUOTE_MINIMAL
    writer = csv.writer(out, delimiter=_DELIMITERS[dialect.form], lineterminator=dialect.line_end, quoting=quoting)
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return out.getvalue()


def _compressed(dialect: Dialect, content: bytes) -> bytes:
    if dialect.compression == "zstd":
        return pa.compress(content, codec="zstd", asbytes=True)
    return {"none": bytes, "gzip": gzip.compress, "bzip2": bz2.compress}[dialect.compression](content)


def spoil(kind: str, rng: np.random.Generator, raw: Path) -> tuple[dict[str, Any], str]:
    """Writes the shop with one fault of meaning. Returns the settings, and what the refusal must name.

    Args:
        kind: one of `FAULTS`.
        rng: chooses the rest of the dialect.
        raw: folder to write.
    """
    plain = dataclasses.replace(draw(rng), names="ours", label="0/1", time="seconds", files="one", photos="png")
    csv_alone = dataclasses.replace(
        plain, form="csv", quotes="few", compression="none", encoding="utf-8", line_end="\n"
    )
    settings: dict[str, Any] = {}
    if kind == "label of another name":
        write(dataclasses.replace(plain, names="shop's"), raw)
        ours = ("item_id", "image", "category", "title", "user_id", "timestamp", "request_id")
        settings["columns"] = tuple(f"{name}={_SHOPS_NAMES[name]}" for name in ours)
        return settings, "is_click"
    if kind in ("minutes", "pattern"):
        write(dataclasses.replace(plain, time=kind), raw)
        return settings, "--timestamp-format"
    write(csv_alone, raw)
    file = raw / ("items.csv" if kind == "item column twice" else "events.csv")
    header, *lines = file.read_text().split(csv_alone.line_end)
    if kind in ("item column twice", "event column twice"):
        column = "category" if kind == "item column twice" else "timestamp"
        lines = [f"{line},17" for line in lines if line] if kind == "event column twice" else lines
        file.write_text("\n".join([f"{header},{column}", *lines]))
        return settings, f"'{column}' twice"
    if kind == "page":
        file.write_text("<!DOCTYPE html><html><body>Please log in</body></html>\n" * 20)
        return settings, file.name
    if kind == "cut off":
        whole = gzip.compress(file.read_bytes())
        file.unlink()
        (raw / "events.csv.gz").write_bytes(whole[: len(whole) // 2])
        return settings, "events.csv.gz"
    raise ValueError(kind)


#: Exports whose meaning is not plain, or that are damaged.
FAULTS = ("label of another name", "minutes", "pattern", "item column twice", "event column twice", "page", "cut off")
