"""Damaged files: nothing of them is exported or promoted. The reason is one line, and no traceback."""

import pytest

from courier_tf.exporting import versions
from courier_tf.exporting.promotion import promote, roll_back
from courier_tf.exporting.promotion_checks import PromotionError
from courier_tf.settings import PromotionSettings
from serving.bundle.releases import ReleaseError
from tests.served_shop import export_again, write_rank

LENIENT = PromotionSettings(auc_tolerance=1.0, calibration_tolerance=100.0)


def flip(file):
    """Flips all bits of a byte in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))


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
    ("similar_items", "batching_params.pbtxt", flip),
    ("similar_items", "batching_params.pbtxt", delete),
    ("image_embedder", "artefact.json", cut),
    ("image_embedder", "artefact.json", delete),
]


def file_of(workdir, model, file, version="1"):
    return workdir / "models" / model / version / file


@pytest.mark.parametrize(("model", "file", "damage"), VERSION_DAMAGE)
def test_a_damaged_version_is_not_promoted_and_the_next_export_replaces_it(workdir, monkeypatch, model, file, damage):
    damage(file_of(workdir, model, file))
    config = (workdir / "serving" / "models.config").read_bytes()
    with pytest.raises(PromotionError, match=rf"^not promoted:\n- [^\n]*{model}/1 is damaged: [^\n]*$") as refused:
        promote(workdir, LENIENT)
    assert "Run 'courier export' to write another version." in str(refused.value)
    assert (workdir / "serving" / "models.config").read_bytes() == config
    written = []
    monkeypatch.setattr(versions, "write_versions", lambda _, new: written.extend(new) or [])
    monkeypatch.setattr("courier_tf.exporting.export.write_versions", versions.write_versions)
    export_again(workdir)
    assert [version.model.name for version in written] == [model]


def test_an_export_replaces_a_damaged_version(workdir, caplog):
    flip(file_of(workdir, "ctr_ranker", "saved_model.pb"))
    assert export_again(workdir) == [workdir / "models" / "ctr_ranker" / "2"]
    assert "ctr_ranker/1 is damaged" in caplog.text and "a new version takes its place" in caplog.text
    assert promote(workdir, LENIENT).versions["ctr_ranker"] == 2


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
