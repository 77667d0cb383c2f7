"""The chain with raw folder and workdir on a store that speaks S3: the results of the same chain on this machine."""

import dataclasses
import shutil

import pytest

from courier_tf.chain.chain import Chain
from courier_tf.files import transfer
from courier_tf.files.places import place_of
from courier_tf.settings.previous import PreviousSettings
from courier_tf.workdir import artefacts, stored
from courier_tf.workdir.stages import CLUSTER, EMBED, INGEST, PRETRAIN, RANK
from tests.chain.conftest import tiny
from tests.object_stores import store

STAGES = (INGEST, PRETRAIN, EMBED, CLUSTER, RANK)


@pytest.mark.slow
def test_the_chain_on_a_store(finished, tmp_path, caplog):
    caplog.set_level("INFO")
    shop, local = finished
    with store("s3") as root:
        raw, workdir = f"{root}/shop", place_of(f"{root}/runs/w")
        transfer.upload(shop, place_of(raw))
        chain = Chain(tmp_path / "copies", tiny(), place=workdir)
        metrics = chain.run(raw)
        here = local.report()
        for name in ("ranking", "gain_over_none", "held_out", "clusters", "category_gates"):
            assert metrics[name] == here[name]
        for stage in STAGES:
            there = artefacts.read(workdir / stage, stage)
            assert there.facts == artefacts.read(local.directory(stage), stage).facts
        assert (
            artefacts.read(workdir / INGEST, INGEST).fingerprint
            == artefacts.read(local.directory(INGEST), INGEST).fingerprint
        )
        names = set(transfer.names_in(workdir))
        assert names >= {"settings.json", "metrics.json", "models/", "serving/", *(f"{stage}/" for stage in STAGES)}
        exported = {entry.name for entry in transfer.files_below(workdir / "models")}
        assert {name.split("/")[0] for name in exported} == {
            path.name for path in (local.workdir / "models").iterdir() if path.is_dir()
        }
        locks = [name for name in names if name.endswith(".lock/")]
        assert not [entry for name in locks for entry in transfer.files_below(workdir / name)]

        # Another machine goes on where this one has ended, and makes nothing again.
        caplog.clear()
        other = Chain(tmp_path / "other", tiny(), place=workdir)
        assert other.run(raw)["ranking"] == metrics["ranking"]
        assert not [record for record in caplog.records if record.getMessage().endswith("] ...")]
        assert {entry.name for entry in transfer.files_below(workdir / "models")} == exported

        # A run of the next day, here, starts from the one on the store.
        shutil.copytree(local.directory(INGEST), tmp_path / "next" / "ingest")
        settings = dataclasses.replace(tiny(), previous=PreviousSettings(previous=str(workdir)))
        following = Chain(tmp_path / "next", settings)
        following.pretrain()
        assert artefacts.read(following.directory(PRETRAIN), PRETRAIN).made_by.inputs["previous"]

        # A damaged file on the store is noticed when it is copied.
        embedded = artefacts.read(workdir / EMBED, EMBED)
        file = embedded.place / sorted(embedded.files)[0]
        transfer.write_bytes(file, transfer.read_bytes(file)[:-1] + b"?")
        with pytest.raises(artefacts.DamagedArtefactError, match="is not what was written"):
            stored.local_copy(embedded, tmp_path / "third")
