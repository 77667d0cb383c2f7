"""`courier skew`: compares a log of requests with the training data and the trained ranker."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from courier_tf.monitoring.skew import SkewReport, compare_log


def skew(workdir: Path, log: Path) -> SkewReport:
    """Prints and returns what a log holds.

    Args:
        workdir: workdir of the models that were served.
        log: file or folder of a `RequestLog`.

    Raises:
        ArtefactError: encoder, codebook and ranker do not belong together.
        SkewError: the log has nothing to compare; or, after the table, served scores differ from the trained ranker's.
    """
    report = compare_log(workdir, log)
    table = Table("feature", "log", "train", title="Requests to ctr_ranker against the train span")
    for name, value in report.log_features.items():
        table.add_row(name.replace("_", " "), _figure(value), _figure(report.train_features[name]))
    console, scores = Console(markup=False, emoji=False), report.scores
    console.print(table)
    console.print(
        f"scores compared with the trained ranker: {scores.compared:,}, largest difference "
        f"{scores.largest_difference:.2g}; of other versions: {scores.of_other_versions:,}"
    )
    if report.items_not_in_nearest:
        console.print(
            f"items that stay in a cluster which is not the nearest: {report.items_not_in_nearest:,}. Their scores are "
            "those of their own cluster, cluster_id; image_embedder answers nearest_cluster_id of item_clusters.parquet"
        )
    scores.require_equal()
    return report


def _figure(value: float) -> str:
    return f"{value:,.4f}" if isinstance(value, float) else f"{value:,}"
