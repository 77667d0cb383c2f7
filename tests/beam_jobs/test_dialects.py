"""However a shop writes its export, ingest makes the same records of it, or says why it does not."""

import dataclasses
import gzip

import numpy as np
import pytest
import tensorflow as tf

from beam_jobs.dialects import detect
from beam_jobs.formats import RawDataError
from beam_jobs.ingest import ingest
from beam_jobs.texts import HEAD_BYTES
from courier_tf import schema
from courier_tf.settings import IngestSettings
from courier_tf.workdir.provenance import MadeBy

from . import dialects
from .reading import read

QUICK, ALL = 2, 200


def records(raw, target, settings) -> dict[str, list[bytes]]:
    """The records of every TFRecord file for training that ingest writes, by its name.

    The digest of a photo's file is left out: the same photo has another one in each format.
    """
    chosen = dataclasses.replace(IngestSettings(image_size=16, shards=2), **settings)
    ingest(str(raw), target, chosen, MadeBy("ingest", {}, {}))
    files = (file for file in target.rglob("*.tfrecord") if schema.DAYS_FOLDER not in file.parts)
    return {str(file.relative_to(target)): without_digests(file) for file in files}


def without_digests(file):
    examples = [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(file))]
    for example in examples:
        example.features.feature.pop("photo_digest", None)
    return [example.SerializeToString(deterministic=True) for example in examples]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> dict[str, list[bytes]]:
    """The records of the plain export."""
    folder = tmp_path_factory.mktemp("plain")
    return records(folder / "raw", folder / "out", dialects.write(dialects.Dialect(), folder / "raw"))


def same_records(seed, plain, folder):
    dialect = dialects.draw(np.random.default_rng(seed))
    found = records(folder / "raw", folder / "out", dialects.write(dialect, folder / "raw"))
    assert found == plain, dialect


@pytest.mark.parametrize("seed", range(QUICK))
def test_any_dialect_gives_the_same_records(seed, plain, tmp_path):
    same_records(seed, plain, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(QUICK, ALL))
def test_further_dialects_give_the_same_records(seed, plain, tmp_path):
    same_records(seed, plain, tmp_path)


@pytest.mark.parametrize(
    ("attribute", "choice"), [(name, choice) for name, choices in dialects.CHOICES.items() for choice in choices[1:]]
)
@pytest.mark.slow
def test_each_choice_alone_gives_the_same_records(attribute, choice, plain, tmp_path):
    form = {"typed": "parquet", "typed Berlin": "parquet", "bytes": "parquet"}.get(choice, "csv")
    dialect = dialects.Dialect(**{"form": form, attribute: choice})
    assert records(tmp_path / "raw", tmp_path / "out", dialects.write(dialect, tmp_path / "raw")) == plain


@pytest.mark.parametrize("fault", dialects.FAULTS)
def test_an_export_that_is_not_plain_is_refused_by_name(fault, tmp_path):
    settings, named = dialects.spoil(fault, np.random.default_rng(len(fault)), tmp_path / "raw")
    with pytest.raises(RawDataError, match=named):
        records(tmp_path / "raw", tmp_path / "out", settings)


TEXTS = {
    "cp1252": ["Größe", "Müller Straße", "Überzug für Kinder", "weiß"],
    "cp1250": ["Żółta łódź", "Gęśla jaźń", "Sukienka różowa", "Źdźbło trawy", "Kurtka męska zimowa"],
    "cp1251": ["Платье красное", "Ботинки", "Куртка зимняя", "Шапка"],
    "utf-8": ["Größe", "Żółta łódź", "Куртка зимняя"],
}


@pytest.mark.parametrize("encoding", TEXTS)
@pytest.mark.parametrize("behind", [500, HEAD_BYTES - 5, HEAD_BYTES, 5 * HEAD_BYTES])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_encoding_is_told_by_text_behind_the_first_bytes(encoding, behind, pack, tmp_path):
    """Texts behind the first 256 KB made rejects of their rows, as no UTF-8."""
    ascii_lines = "item_id,title\n" + "i0,plain\n" * (behind // 9)
    later = "".join(f"i{n},{TEXTS[encoding][n % len(TEXTS[encoding])]}\n" for n in range(400))
    (tmp_path / "items.csv").write_bytes(pack((ascii_lines + later).encode(encoding)))
    assert detect(str(tmp_path / "items.csv")).encoding == encoding


def test_a_few_broken_lines_behind_the_first_bytes_are_no_encoding(tmp_path):
    lines = [b"i0,plain\n"] * 40_000 + ["i1,Größe\n".encode()] * 9 + [b"i2,\xe9\n"] * 2
    (tmp_path / "items.csv").write_bytes(b"item_id,title\n" + b"".join(lines))
    assert detect(str(tmp_path / "items.csv")).encoding == "utf-8"


def test_no_more_is_searched_than_a_table_may_cost(tmp_path, monkeypatch):
    file = tmp_path / "items.csv"
    file.write_bytes(b"item_id,title\n" + b"i0,plain\n" * 300_000 + b"i1,\xe9t\xe9\n" * 9)
    assert detect(str(file)).encoding == "cp1252" and detect(str(file), most=1 << 20).encoding == "utf-8"
    packed = tmp_path / "cut.csv"  # Whoever reads it says that it is cut off.
    packed.write_bytes(gzip.compress(b"a,b\n" + b"".join(b"%d,x\n" % n for n in range(300_000)))[:-99])
    assert detect(str(packed)).encoding == "utf-8"


@pytest.mark.parametrize("sparse", ["items", "events"])
@pytest.mark.parametrize("encoding", ["cp1250", "cp1251", "cp1252"])
def test_tables_of_a_folder_share_the_encoding_that_is_guessed(encoding, sparse, tmp_path):
    """The ids of a log without other text were guessed to be of another encoding, and were not those of the items."""
    texts = TEXTS[encoding]
    ids = [f"{text.split()[0]}-{number}" if number % 4 == 3 else f"i{number}" for number, text in enumerate(texts * 5)]
    wordy = [texts[number % len(texts)] for number in range(len(ids))]
    plain = [""] * len(ids)
    items = [f"{name},x.jpg,{text}\n" for name, text in zip(ids, plain if sparse == "items" else wordy, strict=True)]
    events = [
        f"u{n},{name},{1_600_000_000 + 3600 * n},{text}\n"
        for n, (name, text) in enumerate(zip(ids, plain if sparse == "events" else wordy, strict=True))
    ]
    (tmp_path / "items.csv").write_bytes(("item_id,image,title\n" + "".join(items)).encode(encoding))
    (tmp_path / "events.csv").write_bytes(("user_id,item_id,timestamp,query\n" + "".join(events)).encode(encoding))
    found = read(tmp_path)
    assert {event.item_id for event in found.events} == {item.item_id for item in found.items}
    assert len(found.items) == len(ids)
    if sparse == "events":
        assert {item.item_id for item in found.items} == set(ids)


def test_a_table_that_cannot_have_the_encoding_of_another_one_has_its_own(tmp_path):
    content = ("a,b\n" + "".join(f"{text},1\n" for text in TEXTS["cp1251"] * 3)).encode("cp1251")
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(UnicodeDecodeError):
        content.decode("euc_jp")
    for expected in ("", "euc_jp"):
        assert detect(str(tmp_path / "t.csv"), expected).encoding == "cp1251"
