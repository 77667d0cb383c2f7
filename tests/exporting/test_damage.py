"""Damaged files: nothing of them is exported or promoted. The reason is one line, and no traceback."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from courier_tf.exporting import versions
from courier_tf.exporting.promotion import promote, roll_back
from courier_tf.exporting.promotion_checks import PromotionError
from courier_tf.workdir.artefacts import ArtefactError
from serving.bundle.releases import ReleaseError
from tests.exporting.promotions import LENIENT
from tests.served_shop import export_again, write_rank


def flip(file):
    """Flips all bits of a byte in the middle of a file. Its size and time stay, as where a disk is faulty."""
    status, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def cut(file):
    file.write_bytes(file.read_bytes()[:-3])


def delete(file):
    file.unlink()


def add(file):
    file.with_name("another").write_bytes(b"x")


VERSION_DAMAGE = [
    ("ctr_ranker", "saved_model.pb", flip),
    ("ctr_ranker", "saved_model.pb", cut),
    ("ctr_ranker", "variables/variables.data-00000-of-00001", flip),
    ("ctr_ranker", "variables/variables.index", flip),
    ("ctr_ranker", "variables/variables.index", delete),
    ("ctr_ranker", "assets.extra/tf_serving_warmup_requests", flip),
    ("ctr_ranker", "assets.extra/tf_serving_warmup_requests", add),
    ("image_embedder", "batching_params.pbtxt", flip),
    ("image_embedder", "batching_params.pbtxt", delete),
    ("image_embedder", "artefact.json", cut),
    ("image_embedder", "artefact.json", delete),
]


def file_of(workdir, model, file, version="1"):
    return workdir / "models" / model / version / file


@pytest.mark.parametrize(("model", "file", "damage"), VERSION_DAMAGE)
def test_a_damaged_version_is_not_promoted_and_the_next_export_replaces_it(workdir, monkeypatch, model, file, damage):
    damage(file_of(workdir, model, file))
    config = (workdir / "serving" / "models.config").read_bytes()
    with pytest.raises(PromotionError, match=rf"^not promoted:\n- [^\n]*models/{model}/1[^\n]*$"):
        promote(workdir, LENIENT)
    assert (workdir / "serving" / "models.config").read_bytes() == config
    written = []
    monkeypatch.setattr(versions, "write_versions", lambda _, new: written.extend(new) or [])
    monkeypatch.setattr("courier_tf.exporting.export.write_versions", versions.write_versions)
    export_again(workdir)
    assert [version.model.name for version in written] == [model]


@pytest.mark.slow
def test_an_export_replaces_a_damaged_version(workdir, caplog):
    flip(file_of(workdir, "ctr_ranker", "saved_model.pb"))
    assert export_again(workdir) == [workdir / "models" / "ctr_ranker" / "2"]
    assert "ctr_ranker/1 is damaged" in caplog.text and "a new version takes its place" in caplog.text
    assert promote(workdir, LENIENT).versions["ctr_ranker"] == 2


@pytest.mark.slow
def test_no_roll_back_to_a_damaged_version(workdir):
    promote(workdir, LENIENT)
    write_rank(workdir, seed=2)
    export_again(workdir)
    stable = promote(workdir, LENIENT)
    flip(file_of(workdir, "ctr_ranker", "variables/variables.data-00000-of-00001"))
    with pytest.raises(ReleaseError, match="not rolled back: .*ctr_ranker/1 is damaged"):
        roll_back(workdir)
    # Where the damaged version is the stable one, the next one is promoted without the comparison.
    flip(file_of(workdir, "ctr_ranker", "saved_model.pb", "2"))
    export_again(workdir)
    release = promote(workdir, LENIENT)
    assert release.versions == stable.versions | {"ctr_ranker": 3}
    assert "stable_auc" not in release.measured["ctr_ranker"]


def reverse(file):
    """Gives every item the cluster of another one."""
    table = pq.read_table(file)
    pq.write_table(table.set_column(0, "item_id", pa.array(table["item_id"].to_pylist()[::-1])), file)


STAGE_DAMAGE = [
    ("ingest", "items/items-00000-of-00001.tfrecord", flip),
    ("ingest", "impressions/valid-00000-of-00001.tfrecord", cut),
    ("pretrain", "encoder/encoder.weights.h5", flip),
    ("embed", "items/embeddings-00000-of-00001.parquet", flip),
    ("embed", "items/embeddings-00000-of-00001.parquet", delete),
    ("cluster", "codebook.npy", flip),
    ("cluster", "item_clusters.parquet", reverse),
    ("rank", "cluster_id/start_0/ranker.weights.h5", flip),
    ("rank", "cluster_id/start_0/tables.npz", flip),
]


@pytest.mark.parametrize(("stage", "file", "damage"), STAGE_DAMAGE)
def test_nothing_is_exported_or_promoted_from_a_damaged_stage(workdir, stage, file, damage):
    damage(workdir / stage / file)
    config = (workdir / "serving" / "models.config").read_bytes()
    for act in (export_again, lambda folder: promote(folder, LENIENT)):
        with pytest.raises(ArtefactError, match=rf"^[^\n]*/{stage} is damaged: [^\n]*Run 'courier {stage}' again\.$"):
            act(workdir)
    assert (workdir / "serving" / "models.config").read_bytes() == config
