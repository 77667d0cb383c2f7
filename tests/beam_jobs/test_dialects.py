"""However a shop writes its export, ingest makes the same records of it, or says why it does not."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from beam_jobs.formats import RawDataError
from beam_jobs.ingest import ingest
from courier_tf import schema
from courier_tf.settings import IngestSettings
from courier_tf.workdir.provenance import MadeBy

from . import dialects

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
