"""What the tests of promotions share."""

import pytest
import tensorflow as tf

from courier_tf import schema
from courier_tf.exporting.promotion import promote
from courier_tf.exporting.promotion_checks import PromotionError
from courier_tf.settings import PromotionSettings
from courier_tf.workdir import records
from serving.bundle.configuration import read_models_config

LENIENT = PromotionSettings(auc_tolerance=1.0, calibration_tolerance=100.0, accept=("auc", "calibration", "collapse"))


def promoted(workdir, tolerances=LENIENT):
    return promote(workdir, tolerances)


def refusal(workdir, tolerances=LENIENT):
    """The message of the refusal; nothing may have changed."""
    before = (workdir / "serving" / "models.config").read_text()
    with pytest.raises(PromotionError) as refused:
        promoted(workdir, tolerances)
    assert (workdir / "serving" / "models.config").read_text() == before
    return str(refused.value)


def labels(workdir):
    config = read_models_config(workdir / "serving" / "models.config", workdir / "models")
    return {model.name: dict(model.version_labels) for model in config.model_config_list.config}


def impressions(workdir):
    file = records.files(workdir / "ingest" / schema.IMPRESSIONS_FOLDER, "valid")
    return list(tf.data.TFRecordDataset(file).as_numpy_iterator())
