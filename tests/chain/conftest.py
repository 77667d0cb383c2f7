"""A small shop and a finished chain on it, made once."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from courier_tf.chain.chain import Chain
from courier_tf.settings import Settings
from courier_tf.settings.presets import PRESETS
from courier_tf.shop import ShopSettings, make_shop

SHOP = ShopSettings(items=160, users=80, days=12, page_views=900, photo_size=32)


def tiny() -> Settings:
    preset = PRESETS["tiny"]
    pretrain = dataclasses.replace(
        preset.pretrain, backbone="micro", supervised_steps=4, pretrain_steps=4, checkpoint_every=2
    )
    modes = ("none", "cluster_id", "cluster_id_permuted")
    rank = dataclasses.replace(preset.rank, rank_modes=modes, rank_starts=2)
    ingest = dataclasses.replace(preset.ingest, repeat_columns=("brand",))
    return dataclasses.replace(preset, ingest=ingest, pretrain=pretrain, rank=rank)


@pytest.fixture(scope="session")
def finished(made_once, tmp_path_factory):
    """A shop, and a finished chain on it: a copy of the workdir for each process, as some tests add to it."""

    def make(folder: Path) -> None:
        make_shop(folder / "shop", SHOP)
        Chain(folder / "work", tiny()).run(str(folder / "shop"))

    made = made_once("chain", make)
    workdir = tmp_path_factory.mktemp("chain") / "work"
    shutil.copytree(made / "work", workdir)
    return made / "shop", Chain(workdir, tiny())
