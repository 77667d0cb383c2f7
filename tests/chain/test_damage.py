"""The damage table: whatever happens to the files of a finished workdir, no stage is taken for unchanged.

`courier run` makes a damaged stage again, with the same bytes; a stage that reads a damaged one names it and the way
out, in one line.
"""

import json
import logging
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from courier_tf.chain.chain import Chain
from courier_tf.commands import program
from courier_tf.commands.predict import predict
from courier_tf.commands.similar import similar
from courier_tf.exporting.versions import newest_version
from courier_tf.workdir import artefacts
from courier_tf.workdir.artefacts import ArtefactError, DamagedArtefactError, ForeignFileError
from courier_tf.workdir.provenance import command_of
from courier_tf.workdir.stages import BY_NAME, CLUSTER, EMBED, FEATURES, INGEST, PRETRAIN, RANK, SUPERVISED
from courier_tf.workdir.stages import IN_ORDER as ALL_STAGES

#: The stages of a chain that trains all layers. Features have no stage of their own here: `test_heads` damages those.
IN_ORDER = tuple(stage for stage in ALL_STAGES if stage != FEATURES)


def flip(file: Path) -> None:
    """Flips all bits of a byte in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def reverse(file: Path) -> None:
    """Gives every item the cluster of another one, in a file that is as valid as before."""
    table = pq.read_table(file)
    pq.write_table(table.set_column(0, "item_id", pa.array(table["item_id"].to_pylist()[::-1])), file)


def break_json(file: Path) -> None:
    file.write_text('{"made_by": ')


def empty_json(file: Path) -> None:
    file.write_text("{}")


DAMAGE = [
    (INGEST, "items/items-00000-of-00002.tfrecord", flip),
    (INGEST, "page_views/train-00000-of-00002.tfrecord", flip),
    (INGEST, "impressions/valid-00001-of-00002.tfrecord", flip),
    (INGEST, "impressions/train-00000-of-00002.tfrecord", cut),
    (SUPERVISED, "encoder/encoder.weights.h5", flip),
    (PRETRAIN, "encoder/encoder.weights.h5", flip),
    (PRETRAIN, "embedder/saved_model.pb", cut),
    (EMBED, "items/embeddings-00000-of-00002.parquet", flip),
    (EMBED, "items/embeddings-00001-of-00002.parquet", Path.unlink),
    (CLUSTER, "codebook.npy", flip),
    (CLUSTER, "item_clusters.parquet", reverse),
    (RANK, "cluster_id/start_0/ranker.weights.h5", flip),
    (RANK, "none/start_1/tables.npz", flip),
    (RANK, "none/valid.npy", cut),
    *((stage, artefacts.ARTEFACT_FILE, Path.unlink) for stage in IN_ORDER),
    *((stage, artefacts.ARTEFACT_FILE, break_json) for stage in IN_ORDER),
    (CLUSTER, artefacts.ARTEFACT_FILE, empty_json),
]


@pytest.fixture
def copy(finished, tmp_path):
    """A finished workdir that may be damaged, the settings of its chain, and the raw data."""
    shop, chain = finished
    shutil.copytree(chain.workdir, tmp_path / "work", symlinks=True)
    return Chain(tmp_path / "work", chain.settings), shop


def names_of(cases):
    return [f"{stage}-{Path(file).name}-{damage.__name__}" for stage, file, damage in cases]


@pytest.mark.parametrize(("stage", "file", "damage"), DAMAGE, ids=names_of(DAMAGE))
def test_a_damaged_stage_is_neither_current_nor_read(copy, stage, file, damage):
    chain, _ = copy
    made_by = artefacts.read(chain.directory(stage), stage).made_by
    assert artefacts.is_current(chain.directory(stage), made_by)
    damage(chain.directory(stage) / file)
    with pytest.raises(ArtefactError, match=rf"{stage}.*Run 'courier {command_of(stage)}'") as refused:
        artefacts.read(chain.directory(stage), stage)
    assert "\n" not in str(refused.value)
    if file != artefacts.ARTEFACT_FILE:
        assert f"is damaged: the file {file}" in str(refused.value) or f"of the file {file} has" in str(refused.value)
    assert artefacts.why_stale(chain.directory(stage), made_by) == str(refused.value)


CONTENT = [case for case in DAMAGE if case[2] in (flip, reverse)]


@pytest.mark.parametrize(("stage", "file", "damage"), CONTENT, ids=names_of(CONTENT))
def test_with_its_time_put_back_it_is_found_before_an_export(copy, stage, file, damage):
    chain, _ = copy
    place = chain.directory(stage) / file
    time = place.stat().st_mtime_ns
    damage(place)
    os.utime(place, ns=(time, time))
    with pytest.raises(DamagedArtefactError, match=f"{stage} is damaged: .*{file}"):
        artefacts.verify(artefacts.read(chain.directory(stage), stage), full=True)
    if stage != SUPERVISED:  # Nothing of it is exported.
        with pytest.raises(ArtefactError, match=f"{stage} is damaged: .*{file}"):
            chain.export()


def contents(artefact):
    """Checksum of each file. A SavedModel is left out: it numbers its functions by what its process made before."""
    return {file: state.sha256 for file, state in artefact.files.items() if not file.startswith("embedder/")}


@pytest.mark.slow  # Two minutes; single stages have quick tests above.
def test_a_run_makes_all_damaged_stages_again_with_the_same_bytes(copy, caplog):
    chain, shop = copy
    caplog.set_level(logging.INFO)
    before = {stage: artefacts.read(chain.directory(stage), stage) for stage in IN_ORDER}
    broken = {stage: (file, damage) for stage, file, damage in reversed(DAMAGE) if file != artefacts.ARTEFACT_FILE}
    assert set(broken) == set(IN_ORDER)
    for stage, (file, damage) in broken.items():
        damage(chain.directory(stage) / file)
    chain.run(str(shop))
    for stage in IN_ORDER:
        assert f"[{stage}] is made again: {chain.directory(stage)} is damaged: " in caplog.text
        artefact = artefacts.read(chain.directory(stage), stage)
        assert contents(artefact) == contents(before[stage]), stage
        assert artefact.facts == before[stage].facts, stage
    assert caplog.text.count("unchanged, skipped") == 3, "the served models, which were made from the same bytes"


@pytest.mark.parametrize(
    ("damaged", "file", "command"),
    [
        (INGEST, "items/items-00000-of-00002.tfrecord", "pretrain"),
        (PRETRAIN, "embedder/saved_model.pb", "embed"),
        (EMBED, "items/embeddings-00000-of-00002.parquet", "cluster"),
        (CLUSTER, "codebook.npy", "rank"),
        (RANK, "cluster_id/start_0/ranker.weights.h5", "export"),
    ],
)
def test_a_stage_asked_for_by_name_refuses_a_damaged_one_in_one_line(copy, damaged, file, command):
    chain, _ = copy
    chain.write_settings()
    flip(chain.directory(damaged) / file)
    with pytest.raises(SystemExit) as ended:
        program.main([command, "--workdir", str(chain.workdir)])
    message = str(ended.value)
    assert ended.value.code == 1 and "\n" not in message
    assert f"{damaged} is damaged: the content of the file {file} has changed" in message
    assert f"Run 'courier {damaged}' again." in message


def test_a_stage_asked_for_by_name_makes_its_own_result_again(copy, caplog):
    chain, _ = copy
    chain.write_settings()
    before = artefacts.read(chain.directory(CLUSTER), CLUSTER).fingerprint
    reverse(chain.directory(CLUSTER) / "item_clusters.parquet")
    program.main(["cluster", "--workdir", str(chain.workdir)])
    assert artefacts.read(chain.directory(CLUSTER), CLUSTER).fingerprint == before


def test_no_answer_is_given_from_damaged_files(copy):
    chain, _ = copy
    version = newest_version(chain.workdir / "models" / "ctr_ranker")
    flip(version / "variables" / "variables.data-00000-of-00001")
    flip(chain.directory(EMBED) / "items" / "embeddings-00000-of-00002.parquet")
    with pytest.raises(DamagedArtefactError, match=r"variables\.data-00000-of-00001 has changed. Run 'courier export'"):
        predict(chain.workdir, "u1", ["i1"], [])
    with pytest.raises(DamagedArtefactError, match=r"embeddings-00000-of-00002\.parquet has changed"):
        similar(chain.workdir, ("i1",), 3)


@pytest.mark.parametrize("stage", IN_ORDER)
def test_a_file_too_many_is_refused_by_name_and_costs_no_training(copy, stage):
    chain, shop = copy
    (chain.directory(stage) / "more.parquet").write_bytes(b"x")
    before = (chain.directory(stage) / artefacts.ARTEFACT_FILE).stat().st_ino
    with pytest.raises(ForeignFileError, match=f"{stage} is not as .*the file more.parquet does not belong there"):
        chain.run(str(shop))
    assert (chain.directory(stage) / artefacts.ARTEFACT_FILE).stat().st_ino == before


def test_what_is_forced_is_made_again_and_nothing_else(copy, caplog):
    chain, shop = copy
    caplog.set_level(logging.INFO)
    before = artefacts.read(chain.directory(CLUSTER), CLUSTER)
    Chain(chain.workdir, chain.settings, force=frozenset({"cluster"})).cluster()
    assert "[cluster] is made again: it is forced" in caplog.text
    after = artefacts.read(chain.directory(CLUSTER), CLUSTER)
    assert after.fingerprint == before.fingerprint and after.files != before.files
    chain.rank()
    assert "[rank] unchanged, skipped" in caplog.text


def test_facts_are_those_of_the_stage(copy):
    chain, _ = copy
    file = chain.directory(EMBED) / artefacts.ARTEFACT_FILE
    content = json.loads(file.read_text())
    content["facts"]["image_size"] = "large"
    file.write_text(json.dumps(content))
    with pytest.raises(ArtefactError, match="image_size='large'.*Run 'courier embed' again"):
        artefacts.read(chain.directory(EMBED), BY_NAME["embed"])
