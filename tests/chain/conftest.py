"""A small shop and a finished chain on it, made once per process of tests."""

import dataclasses

import pytest

from courier_tf.chain import Chain
from courier_tf.presets import PRESETS
from courier_tf.settings import Settings
from courier_tf.shop import ShopSettings, make_shop

SHOP = ShopSettings(items=160, users=80, days=12, page_views=900, photo_size=32)


def tiny() -> Settings:
    preset = PRESETS["tiny"]
    pretrain = dataclasses.replace(
        preset.pretrain, backbone="micro", warmup_steps=4, pretrain_steps=4, checkpoint_every=2
    )
    modes = ("none", "cluster_id", "cluster_id_permuted")
    rank = dataclasses.replace(preset.rank, rank_modes=modes, rank_starts=2)
    ingest = dataclasses.replace(preset.ingest, repeat_columns=("brand",))
    return dataclasses.replace(preset, ingest=ingest, pretrain=pretrain, rank=rank)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A shop, and a finished chain on it."""
    folder = tmp_path_factory.mktemp("chain")
    make_shop(folder / "shop", SHOP)
    chain = Chain(folder / "work", tiny())
    chain.run(str(folder / "shop"))
    return folder / "shop", chain
