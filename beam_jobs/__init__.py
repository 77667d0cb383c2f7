"""Apache Beam jobs: raw logs and photos to TFRecords, and items to embeddings."""

import courier_tf  # noqa: F401  (chooses the Keras: Beam imports TensorFlow on its own)
