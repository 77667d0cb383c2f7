"""One of each objective, and models that train them."""

import functools

import tensorflow as tf

from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.objectives import registry
from courier_tf.pretrain.objectives.courier import LOSSES, Courier
from courier_tf.pretrain.objectives.supervised import Supervised

#: Every objective that the settings can name, and more of courier's variants.
OBJECTIVES = {
    **registry.OBJECTIVES,
    "supervised": functools.partial(Supervised, [3, 3]),
    "other_users": functools.partial(Courier, negatives="other_users"),
    "popularity_corrected": functools.partial(Courier, negatives="popularity_corrected"),
    "authors": functools.partial(Courier, "multi_head", losses=LOSSES),
    "projection": functools.partial(Courier, projection=True),
    "self_attention": functools.partial(Courier, "self_attention"),
}


def model_of(name, strategy=None, rate=0.1, **settings):
    with (strategy or tf.distribute.get_strategy()).scope():
        tf.keras.utils.set_random_seed(1)
        model = CourierModel(
            Encoder("micro", 16, drop_path=settings.pop("drop_path", 0.0)), OBJECTIVES[name](), **settings
        )
        model.compile(tf.keras.optimizers.SGD(rate))
    return model
