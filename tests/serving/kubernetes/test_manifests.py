"""The manifests: built by kubectl's Kustomize, and held against the bundle that they serve."""

import copy
import os
import re
import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from courier_tf.commands.serve import BINARY, binary_arguments
from serving.bundle.configuration import (
    MODELS_CONFIG,
    MODELS_IN_CONTAINER,
    READY_FILE,
)
from serving.bundle.image import image_for

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "serving" / "kubernetes"
LOCKED = re.search(r"^tensorflow==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)[1]
OVERLAYS = ("volume", "gs", "s3")


def built(overlay):
    """(kind, name) -> resource of an overlay, as `kubectl apply -k` would send it."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not installed: its Kustomize builds the overlays")
    done = subprocess.run(["kubectl", "kustomize", FOLDER / "overlays" / overlay], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {(made["kind"], made["metadata"]["name"]): made for made in yaml.safe_load_all(done.stdout)}


@pytest.fixture(scope="module", params=OVERLAYS)
def resources(request):
    return built(request.param)


def inference_service():
    return yaml.safe_load((FOLDER / "kserve" / "inference_service.yaml").read_text())


def deployment():
    return yaml.safe_load((FOLDER / "base" / "deployment.yaml").read_text())


def pods():
    """(spec of the pods, container of the server) of the Deployment and of the InferenceService."""
    for spec, name in (
        (deployment()["spec"]["template"]["spec"], "serving"),
        (inference_service()["spec"]["predictor"], "kserve-container"),
    ):
        (server,) = [container for container in spec["containers"] if container["name"] == name]
        yield spec, server


@pytest.mark.parametrize(("spec", "server"), list(pods()), ids=["deployment", "kserve"])
def test_the_server_is_that_of_the_bundle(spec, server):
    bundle = Path("/config")
    assert [*server["command"], *server["args"]] == binary_arguments(bundle / MODELS_CONFIG, bundle, 8500, 8501)
    assert server["command"] == [BINARY] and server["image"] == image_for(LOCKED)
    places = {mount["mountPath"]: mount.get("subPath") for mount in server["volumeMounts"]}
    assert places == {MODELS_IN_CONTAINER: "models", "/config": "serving", "/tmp": None}
    assert all(mount.get("readOnly") for mount in server["volumeMounts"] if mount["name"] == "workdir")
    assert {port["name"]: port["containerPort"] for port in server["ports"]} == {"grpc": 8500, "rest": 8501}


@pytest.mark.parametrize(("spec", "server"), list(pods()), ids=["deployment", "kserve"])
def test_a_replica_is_ready_once_its_labels_answer_and_goes_without_losing_requests(spec, server):
    assert server["readinessProbe"]["exec"]["command"] == ["bash", f"/config/{READY_FILE}"]
    # A new label comes up to one poll after the file names it: a replica must not lose its traffic for that.
    readiness = server["readinessProbe"]
    assert readiness["periodSeconds"] * readiness["failureThreshold"] > 10
    startup = server["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 300 and "tcpSocket" in startup
    assert "tcpSocket" in server["livenessProbe"], "a request would fail under load"
    seconds = int(server["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert 10 <= seconds < spec["terminationGracePeriodSeconds"]
    assert spec["shareProcessNamespace"] is True, "process 1 ignores SIGTERM"
    assert spec["securityContext"]["runAsNonRoot"] and not server["securityContext"]["allowPrivilegeEscalation"]
    assert set(server["resources"]["requests"]) == {"cpu", "memory"} and "memory" in server["resources"]["limits"]


#: The oldest version of Kubernetes that the manifests are for, and the newest whose schemas are installed.
VERSIONS = ("1.25", kubernetes_validate.latest_version())


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(resources, version):
    """By the schemas of Kubernetes itself, of which none allows a field that it does not name."""
    for made in resources.values():
        kubernetes_validate.validate(made, version, strict=True)
    broken = copy.deepcopy(resources["Deployment", "courier"])
    broken["spec"]["template"]["spec"]["terminationGracePeriod"] = 45
    with pytest.raises(kubernetes_validate.ValidationError, match="'terminationGracePeriod' was unexpected"):
        kubernetes_validate.validate(broken, version, strict=True)


#: Fields of a predictor that are KServe's; all others are those of a pod.
OF_KSERVE = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "timeout"}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_predictor_of_kserve_is_a_pod(version):
    """There is no schema of an InferenceService on PyPI."""
    predictor = inference_service()["spec"]["predictor"]
    assert predictor.keys() > OF_KSERVE
    spec = {name: value for name, value in predictor.items() if name not in OF_KSERVE}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "courier"}, "spec": spec}
    kubernetes_validate.validate(pod, version, strict=True)


def test_services_lead_to_the_pods(resources):
    labels = resources["Deployment", "courier"]["spec"]["template"]["metadata"]["labels"]
    services = {name: made["spec"] for (kind, name), made in resources.items() if kind == "Service"}
    assert set(services) == {"courier", "courier-ready", "courier-replicas"}
    for name, service in services.items():
        assert service["selector"].items() <= labels.items(), name
        assert {port["targetPort"] for port in service["ports"]} <= {"grpc", "rest"}
    # A roll-out asks every replica, also those that are not ready because of it.
    assert services["courier-replicas"]["clusterIP"] == services["courier-ready"]["clusterIP"] == "None"
    assert services["courier-replicas"]["publishNotReadyAddresses"] is True
    assert "publishNotReadyAddresses" not in services["courier-ready"]
    for kind, field in (("PodDisruptionBudget", "selector"), ("NetworkPolicy", "podSelector")):
        chosen = resources[kind, "courier"]["spec"][field]["matchLabels"]
        assert chosen and chosen.items() <= labels.items(), kind
    # KServe gives the labels of the InferenceService to its pods.
    assert services["courier"]["selector"].items() <= inference_service()["metadata"]["labels"].items()


def test_replicas_are_scaled_and_kept(resources):
    scaler = resources["HorizontalPodAutoscaler", "courier"]["spec"]
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "courier"}
    assert 2 <= scaler["minReplicas"] < scaler["maxReplicas"]
    assert "replicas" not in resources["Deployment", "courier"]["spec"], "each apply would undo the autoscaler"
    assert resources["PodDisruptionBudget", "courier"]["spec"]["maxUnavailable"] == 1
    assert {made["metadata"].get("namespace", "courier") for made in resources.values()} == {"courier"}


def test_each_volume_that_is_mounted_is_there(resources):
    spec = resources["Deployment", "courier"]["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
    if claim := volumes["workdir"].get("persistentVolumeClaim"):
        assert resources["PersistentVolumeClaim", claim["claimName"]]["spec"]["accessModes"] == ["ReadWriteMany"]
    else:  # Copies of a bucket: the first before the server starts.
        assert spec["initContainers"][0]["command"][-1] == "once" and spec["serviceAccountName"] == "courier"
        (source,) = [made["data"]["SOURCE"] for (kind, name), made in resources.items() if "courier-source" in name]
        assert source.startswith((":gcs,env_auth=true:", ":s3,provider=AWS,env_auth=true:"))
        assert resources["ServiceAccount", "courier"]["metadata"]["annotations"]


RCLONE = """#!/bin/sh
# Stands in for rclone: `rclone sync FROM TO` between folders. The upload of a version comes while models are copied.
[ "$1" = sync ] || exit 2
mkdir -p "$3" && cp -r "$2/." "$3/"
case $2 in */serving) [ ! -d "$UPLOAD" ] || cp -r "$UPLOAD/." "$2/../";; esac
[ ! -e "$2/broken" ]
"""


def test_a_copy_of_a_bucket_never_names_what_it_lacks(tmp_path):
    """The bucket gets version 2 and a bundle that names it between the copies of both: the old bundle stays."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/rclone").write_text(RCLONE)
    (tmp_path / "bin/rclone").chmod(0o755)
    bucket, upload, workdir = (tmp_path / name for name in ("bucket", "upload", "workdir"))
    for place, version in ((bucket, 1), (upload, 2)):
        (place / f"models/m/{version}").mkdir(parents=True)
        (place / "serving").mkdir()
        (place / "serving/models.config").write_text(f"versions: {version}")
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "UPLOAD": str(upload)}
    environment |= {"SOURCE": str(bucket), "WORKDIR": str(workdir)}

    def copy():
        return subprocess.run(
            ["sh", FOLDER / "bucket/copy.sh", "once"], env=environment, capture_output=True
        ).returncode

    for version in (1, 2):
        assert copy() == 0
        assert (workdir / "serving/models.config").read_text() == f"versions: {version}"
        assert (workdir / f"models/m/{version}").is_dir()
        assert [file.name for file in (workdir / "serving").iterdir()] == ["models.config"]
    (bucket / "models/broken").touch()
    (bucket / "serving/models.config").write_text("versions: 3")
    assert copy() != 0
    assert (workdir / "serving/models.config").read_text() == "versions: 2"
