"""The example of the README runs."""

import re
from pathlib import Path

import numpy as np

from serving.client import contract
from tests.serving.client.replicas import GrpcReplica, RestReplica


def answered(asked):
    if asked.model == contract.CTR_RANKER:
        return {"probability": np.full(asked.inputs["item_id"].shape, 0.5), "model_version": np.ones(1, np.int64)}
    items = {"item_ids": np.array([[b"i8", b"i9"]], object), "similarity": np.array([[0.9, 0.8]])}
    return {**items, "status": np.zeros(1, np.int64), "model_version": np.ones(1, np.int64)}


def test_the_example_of_the_readme():
    (example,) = re.findall(r"```python\n(.*?)```", Path("serving/README.md").read_text(), re.DOTALL)
    servers = [start(answered).start() for start in (GrpcReplica, GrpcReplica, RestReplica, RestReplica)]
    names = ("ranker-0:8500", "ranker-1:8500", "http://ranker-0:8501", "http://ranker-1:8501")
    for name, server in zip(names, servers, strict=True):
        assert name in example
        example = example.replace(name, server.target)
    names = {}
    exec(example, names)  # It is our own README.
    assert names["scores"].probability.tolist() == [0.5] * 3 and names["same"].probability.tolist() == [0.5]
    assert names["similar"][0].items == ("i8", "i9")
    for server in servers:
        server.close()
