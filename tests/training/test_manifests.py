"""The manifests of training: fields that exist, and commands that the program takes, as the cluster would give them."""

import copy
import json
import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from courier_tf.commands import program
from courier_tf.commands.chain_commands import Pretrain
from courier_tf.workers.places import Places

FOLDER = Path(__file__).parents[2] / "training"
VERSIONS = ("1.25", kubernetes_validate.latest_version())


def documents(name):
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def job():
    (made,) = [part for part in documents("kubernetes_job.yaml") if part["kind"] == "Job"]
    return made


def container_of(pod):
    (container,) = pod["containers"]
    return container


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(version):
    for made in documents("kubernetes_job.yaml"):
        kubernetes_validate.validate(made, version, strict=True)
    broken = copy.deepcopy(job())
    broken["spec"]["completion"] = 2
    with pytest.raises(kubernetes_validate.ValidationError, match="'completion' was unexpected"):
        kubernetes_validate.validate(broken, version, strict=True)


def test_each_index_is_a_worker_with_the_name_of_its_pod():
    service, made, policy = documents("kubernetes_job.yaml")
    spec, pod = made["spec"], made["spec"]["template"]["spec"]
    container = container_of(pod)
    assert container["env"][0]["name"] == "INDEX"
    assert "job-completion-index" in container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"]
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["selector"] == {
        "job-name": made["metadata"]["name"]
    }
    assert pod["subdomain"] == service["metadata"]["name"]
    assert spec["completions"] == spec["parallelism"] and spec["completionMode"] == "Indexed"
    for index in range(spec["completions"]):
        command = program.read([word.replace("$(INDEX)", str(index)) for word in container["args"]])
        assert isinstance(command, Pretrain)
        host = f"{made['metadata']['name']}-{index}.{pod['subdomain']}"  # As Kubernetes names the pods of such a job.
        places = command.places()
        assert places.addresses[index] == f"{host}:{container['ports'][0]['containerPort']}"
        assert places.index == index and places.number == spec["completions"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert pod["restartPolicy"] == "OnFailure"


#: Fields of a TFJob of kubeflow.org/v1, of which there is no schema on PyPI; the template is that of a pod.
OF_TFJOB = {"runPolicy", "successPolicy", "tfReplicaSpecs"}
OF_REPLICAS = {"replicas", "restartPolicy", "template"}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_pods_of_kubeflow_are_pods(version):
    (made,) = documents("kubeflow_tfjob.yaml")
    assert (made["apiVersion"], made["kind"]) == ("kubeflow.org/v1", "TFJob") and made["spec"].keys() == OF_TFJOB
    for replicas in made["spec"]["tfReplicaSpecs"].values():
        assert replicas.keys() == OF_REPLICAS
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "courier"}, "spec": replicas["template"]["spec"]}
        kubernetes_validate.validate(pod, version, strict=True)
        container = container_of(pod["spec"])
        assert container["name"] == "tensorflow" and container["ports"][0]["name"] == "tfjob-port"


def tf_config(kind, index):
    """As Kubeflow's operator and Vertex AI write it."""
    cluster = {
        "chief": ["courier-training-chief-0.courier.svc:2222"],
        "worker": ["courier-training-worker-0.courier.svc:2222"],
    }
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}, "environment": "cloud"})


def commands_by_tf_config():
    (made,) = documents("kubeflow_tfjob.yaml")
    for replicas in made["spec"]["tfReplicaSpecs"].values():
        yield container_of(replicas["template"]["spec"])["args"]
    (vertex,) = documents("vertex_job.yaml")
    for pool in vertex["workerPoolSpecs"]:
        yield pool["containerSpec"]["args"]


@pytest.mark.parametrize(("kind", "index"), [("chief", 0), ("worker", 1)])
def test_commands_that_take_tf_config(monkeypatch, tmp_path, kind, index):
    monkeypatch.setenv("TF_CONFIG", tf_config(kind, 0))
    for words in commands_by_tf_config():
        command = program.read([re.sub(r"=gs://.*", f"={tmp_path}", word) for word in words])
        assert isinstance(command, Pretrain)
        assert command.places() == Places(
            ("courier-training-chief-0.courier.svc:2222", "courier-training-worker-0.courier.svc:2222"), index
        )


def test_vertex_has_one_chief():
    """Fields of a CustomJobSpec, https://cloud.google.com/vertex-ai/docs/reference/rest/v1/CustomJobSpec."""
    (made,) = documents("vertex_job.yaml")
    assert made.keys() == {"workerPoolSpecs", "scheduling"}
    assert made["scheduling"].keys() <= {"timeout", "restartJobOnWorkerRestart", "strategy", "disableRetries"}
    chief, *others = made["workerPoolSpecs"]
    assert chief["replicaCount"] == 1 and others
    for pool in (chief, *others):
        assert pool.keys() <= {"machineSpec", "replicaCount", "containerSpec", "diskSpec", "nfsMounts"}
        assert pool["machineSpec"].keys() <= {"machineType", "acceleratorType", "acceleratorCount"}
        assert pool["containerSpec"].keys() <= {"imageUri", "args", "command", "env"}


def test_the_images_are_those_of_the_dockerfile():
    text = (FOLDER.parent / "Dockerfile").read_text()
    for name in ("kubernetes_job.yaml", "kubeflow_tfjob.yaml", "vertex_job.yaml"):
        for target in re.findall(r"--target (\w+)", (FOLDER / name).read_text()):
            assert f" AS {target}\n" in text
