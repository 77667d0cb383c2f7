"""Exports, promotions and a server with a workdir on a store: what they do with one on this machine."""

import json
from pathlib import Path

import pytest

from courier_tf.commands import serve as serving
from courier_tf.commands.chain_commands import Export
from courier_tf.commands.model_commands import Serve
from courier_tf.files import transfer
from courier_tf.files.places import place_of
from courier_tf.workdir import artefacts, stored
from courier_tf.workdir.snapshot import SNAPSHOT_STAGES
from courier_tf.workdir.stages import CLUSTER, EMBED, INGEST, PRETRAIN, RANK
from serving.bundle.configuration import read_models_config
from serving.bundle.graph_model import GraphModel
from tests.exporting.promotions import LENIENT
from tests.object_stores import store
from tests.served_shop import make_workdir, write_rank

STAGES = (INGEST, PRETRAIN, EMBED, CLUSTER, RANK)


def stable(place, folder):
    """The stable version of each model, by the bundle on the store."""
    transfer.fetch(place / "serving", folder / "serving")
    config = read_models_config(folder / "serving" / "models.config", folder / "models")
    return {model.name: dict(model.version_labels)["stable"] for model in config.model_config_list.config}


@pytest.mark.slow  # Models are exported four times: a minute and a half.
def test_a_promotion_a_roll_back_and_a_server(tmp_path, monkeypatch):
    shop = tmp_path / "shop"
    make_workdir(shop)
    with store("s3") as root:
        place = place_of(f"{root}/w")
        for stage in STAGES:
            stored.publish(shop / stage, place / stage)
        Export(workdir=place, local_copies=tmp_path / "one", promote=True, tolerances=LENIENT).run()
        first = stable(place, tmp_path / "first")
        for stage in SNAPSHOT_STAGES:
            kept = artefacts.read(place / "promoted" / stage, stage)
            assert kept.fingerprint == artefacts.read(shop / stage, stage).fingerprint
            assert stored.local_copy(kept, tmp_path / "copied" / stage).is_dir()

        # Another machine promotes the next ranker.
        write_rank(shop, seed=2)
        stored.publish(shop / RANK, place / RANK)
        Export(workdir=place, local_copies=tmp_path / "two", promote=True, tolerances=LENIENT).run()
        assert stable(place, tmp_path / "second") == {**first, "ctr_ranker": first["ctr_ranker"] + 1}
        ranked = artefacts.read(shop / RANK, RANK).fingerprint
        assert artefacts.read(place / "promoted" / RANK, RANK).fingerprint == ranked

        # A third one takes it back, with what these versions were made from.
        Export(workdir=place, local_copies=tmp_path / "three", roll_back=True).run()
        assert stable(place, tmp_path / "third") == first
        assert artefacts.read(place / "promoted" / RANK, RANK).fingerprint != ranked
        assert not transfer.exists(place / ".promoted.previous")
        assert not [entry for entry in transfer.files_below(place / ".export.lock")]

        served = []

        def serve(bundle: Path, models: Path, *_: object) -> None:
            config = read_models_config(bundle / "models.config", models)
            served.extend(model.name for model in config.model_config_list.config)
            GraphModel(models / "ctr_ranker" / str(first["ctr_ranker"]))
            served.append(bundle.parent)
            assert bundle.parent == models.parent and json.loads((bundle / "releases.json").read_text())

        monkeypatch.setattr(serving, "serve", serve)
        Serve(workdir=place).run()
        assert set(served[:-1]) == set(first) and not served[-1].exists()
