"""The served models. To add one, add its descriptor here."""

from courier_tf.exporting.ctr_ranker import CtrRanker
from courier_tf.exporting.image_embedder import ImageEmbedder
from courier_tf.exporting.served_model import ServedModel
from courier_tf.exporting.similar_items import SimilarItemsModel

#: What every export writes and every server of the bundle loads.
SERVED_MODELS: tuple[ServedModel, ...] = (CtrRanker(), ImageEmbedder(), SimilarItemsModel())


def scann_models() -> tuple[ServedModel, ...]:
    """What `courier export --scann` writes beside these, for a server that is built with ScaNN's ops."""
    from courier_tf.exporting.scann_similar_items import ScannSimilarItems  # It registers ScaNN's ops.

    return (ScannSimilarItems(),)


def model_names() -> list[str]:
    """The names of the served models, in the order of the bundle.

    >>> model_names()
    ['ctr_ranker', 'image_embedder', 'similar_items']
    """
    return [model.name for model in SERVED_MODELS]
