"""One of each objective, and models that train them."""

import functools

import tensorflow as tf

from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.objectives.clip import Clip
from courier_tf.pretrain.objectives.courier import LOSSES, Courier
from courier_tf.pretrain.objectives.mil_nce import MilNce
from courier_tf.pretrain.objectives.simclr import SimClr
from courier_tf.pretrain.objectives.simcse import SimCse
from courier_tf.pretrain.objectives.simsiam import SimSiam
from courier_tf.pretrain.objectives.supervised import Supervised

OBJECTIVES = {
    "courier": Courier,
    "other_users": functools.partial(Courier, negatives="other_users"),
    "popularity_corrected": functools.partial(Courier, negatives="popularity_corrected"),
    "authors": functools.partial(Courier, "multi_head", losses=LOSSES),
    "projection": functools.partial(Courier, projection=True),
    "self_attention": functools.partial(Courier, "self_attention"),
    "simclr": SimClr,
    "simcse": SimCse,
    "simsiam": SimSiam,
    "mil_nce": MilNce,
    "clip": Clip,
    "supervised": functools.partial(Supervised, [3, 3]),
}


def model_of(name, strategy=None, rate=0.1, **settings):
    with (strategy or tf.distribute.get_strategy()).scope():
        tf.keras.utils.set_random_seed(1)
        model = CourierModel(
            Encoder("micro", 16, drop_path=settings.pop("drop_path", 0.0)), OBJECTIVES[name](), **settings
        )
        model.compile(tf.keras.optimizers.SGD(rate))
    return model
