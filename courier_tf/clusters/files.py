"""Names and columns of the files that the cluster stage writes."""

import pyarrow as pa

CODEBOOK_FILE = (
    "codebook.npy"  # [levels, clusters, D] float32. The row is the code; on the first level it is the cluster ID.
)
SHEETS_FOLDER = "sheets"  # Pages of sample photos.
TABLE_FILE = "item_clusters.parquet"  # Columns as in TABLE_SCHEMA; NO_CLUSTER for an item without a photo.
TABLE_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        # What the item has: what rankers know it by.
        ("cluster_id", pa.int32()),
        ("codes", pa.list_(pa.int32())),
        # What `image_embedder` answers to its photo. They differ where an item stays in its previous cluster.
        ("nearest_cluster_id", pa.int32()),
        ("nearest_codes", pa.list_(pa.int32())),
    ]
)
NO_CLUSTER = -1
