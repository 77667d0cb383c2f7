"""Reading the results of the cluster and the embed stage, row by row of a catalogue."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.embed import EMBEDDING_SCHEMA
from courier_tf.clusters.files import CODEBOOK_FILE, NO_CLUSTER, TABLE_FILE, TABLE_SCHEMA
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.workdir import artefacts
from courier_tf.workdir.facts import ClusterFacts, EmbedFacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import CLUSTER, EMBED
from tests.stage_facts import example

EMBEDDINGS = {"b": [0.6, 0.8], "a": [1.0, 0.0], "gone": [0.0, 1.0], "none": None}
CODES = {"b": [1, 0], "a": [0, 3], "gone": [2, 2], "none": [NO_CLUSTER, NO_CLUSTER]}


def stages(folder):
    """A cluster and an embed stage; neither knows the item `new`, and both know one that the catalogue has not."""
    with artefacts.write_aside(folder / "embed", MadeBy(EMBED, {}, {})) as draft:
        draft.facts, partial = example(EmbedFacts, encoder="e"), draft.path
        (partial / "items").mkdir()
        rows = [
            {"item_id": item, "category": "x", "in_train_span": True, "embedding": values, "encoder": "e"}
            for item, values in EMBEDDINGS.items()
        ]
        rows = [{name: row.get(name) for name in EMBEDDING_SCHEMA.names} for row in rows]
        pq.write_table(pa.Table.from_pylist(rows, EMBEDDING_SCHEMA), partial / "items" / "embeddings-0.parquet")
    with artefacts.write_aside(folder / "cluster", MadeBy(CLUSTER, {}, {})) as draft:
        draft.facts, partial = example(ClusterFacts, levels=2, embedding_dim=2), draft.path
        np.save(partial / CODEBOOK_FILE, np.arange(20, dtype=np.float32).reshape(2, 5, 2))
        rows = [{"item_id": item, "cluster_id": codes[0], "codes": codes} for item, codes in CODES.items()]
        pq.write_table(pa.Table.from_pylist(rows, TABLE_SCHEMA), partial / TABLE_FILE)
    return folder / "cluster", folder / "embed"


def test_visual_features_stand_in_the_rows_of_the_catalogue(tmp_path):
    cluster, embed = stages(tmp_path)
    ids = np.array([b"a", b"b", b"new", b"none"], object)
    train = np.array([True, False, False, True])
    visual = CatalogueVisuals.read(cluster, embed, ids, train)
    np.testing.assert_array_equal(visual.codes, [[1, 4], [2, 1], [0, 0], [0, 0], [0, 0]])
    np.testing.assert_allclose(visual.embeddings, [[1, 0], [0.6, 0.8], [0, 0], [0, 0], [0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(visual.in_train_span, [True, False, False, True, False])
    assert visual.clusters == 5
    np.testing.assert_array_equal(visual.centroids[1, 0], [10, 11])
    assert CatalogueVisuals.read(cluster, None, ids, train).embeddings.shape == (5, 0)
