"""SavedModels with ops that stock TensorFlow lacks, or that cannot be read."""

import pytest
import tensorflow as tf

from serving.bundle.stock_ops import StockOpsError, require_stock_ops
from serving.client import contract


def test_stock_ops_alone(shop, tmp_path):
    """All three were checked before they appeared; a foreign op is named."""
    module = tf.Module()
    module.call = tf.function(lambda x: x + 1.0, [tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(tmp_path))
    file = tmp_path / "saved_model.pb"
    file.write_bytes(file.read_bytes().replace(b"AddV2", b"Sc>an"))
    with pytest.raises(StockOpsError, match="lacks: Sc>an"):
        require_stock_ops([shop.workdir / "models" / contract.CTR_RANKER / "1", tmp_path])


def test_a_saved_model_that_cannot_be_read(tmp_path):
    with pytest.raises(StockOpsError, match=r"^[^\n]*cannot be loaded: [^\n]*saved_model.pb[^\n]*$"):
        require_stock_ops([tmp_path])
    (tmp_path / "saved_model.pb").write_bytes(b"\xff no graph")
    with pytest.raises(StockOpsError, match=r"^[^\n]*cannot be loaded: [^\n]*$"):
        require_stock_ops([tmp_path])
