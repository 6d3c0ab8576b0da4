"""The files for KubeRay fit KubeRay's and Kubernetes' schemas and Ray's own options, and say what they must."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
from ray.scripts.scripts import start
from ruamel.yaml import YAML

from flows.config_file import load
from tests.infra.kuberay import schema_of

FOLDER = Path(__file__).parents[2] / "infra/deploy/kuberay"
KUBERNETES = "1.33"
Document = dict[str, Any]


def documents(name: str) -> list[Document]:
    return list(YAML(typ="safe").load_all(FOLDER / name))


def cluster_spec(name: str) -> Document:
    (found,) = [document["spec"] for document in documents(name) if document["apiVersion"] == "ray.io/v1"]
    return found.get("rayClusterSpec", found)


def groups(spec: Document) -> dict[str, Document]:
    return {"head": spec["headGroupSpec"], **{group["groupName"]: group for group in spec["workerGroupSpecs"]}}


def check(document: Document) -> None:
    """Fails where a schema says so."""
    if document["apiVersion"] != "ray.io/v1":
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
        return
    jsonschema.validate(document, schema_of(document["kind"]))
    spec = document["spec"].get("rayClusterSpec", document["spec"])
    own = {name: spec["autoscalerOptions"][name] for name in ("resources", "securityContext")}
    pods = [group["template"]["spec"] for group in groups(spec).values()] + [{"containers": [{"name": "autoscaler", **own}]}]
    for pod in pods:
        kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, "spec": pod}, KUBERNETES, strict=True)


FILES = ("raycluster.yaml", "rayjob.yaml")


@pytest.mark.parametrize("name", FILES)
def test_the_files_fit_the_schemas(name: str) -> None:
    found = documents(name)
    assert {document["kind"] for document in found} == ({"RayCluster"} if name == "raycluster.yaml" else {"ConfigMap", "RayJob"})
    for document in found:
        check(document)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of a document that a schema knows, as a path."""
    free = {"labels", "metadata", "rayStartParams", "limits", "requests", "data"}
    for key, below in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if isinstance(value, dict):
            yield (*path, key)
        if key not in free:
            yield from places(below, (*path, key))


def test_a_misspelt_key_does_not_fit_wherever_it_is() -> None:
    """Else the test above could not fail; the job has all that the cluster has."""
    for document in documents("rayjob.yaml"):
        for path in places(document):
            spoilt = copy.deepcopy(document)
            parent = spoilt
            for key in path[:-1]:
                parent = parent[key]
            parent[f"{path[-1]}x"] = parent.pop(path[-1])
            assert not fits(spoilt), path


def fits(document: Document) -> bool:
    try:
        check(document)
    except (jsonschema.ValidationError, kubernetes_validate.ValidationError, KeyError):
        return False
    return True


@pytest.mark.parametrize("name", FILES)
def test_the_head_computes_nothing_cores_decode_gpus_infer_and_both_grow(name: str) -> None:
    spec = cluster_spec(name)
    assert spec["enableInTreeAutoscaling"]
    assert (spec["headGroupSpec"]["rayStartParams"]["num-cpus"], spec["headGroupSpec"]["rayStartParams"]["num-gpus"]) == ("0", "0")
    cores, gpus = spec["workerGroupSpecs"]
    asked = [group["template"]["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") for group in (cores, gpus)]
    assert asked == [None, 1]
    for group in (cores, gpus):
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert group["minReplicas"] < group["maxReplicas"]


@pytest.mark.parametrize("name", FILES)
def test_secrets_are_secrets_and_pods_may_do_little(name: str) -> None:
    spec = cluster_spec(name)
    assert spec["authOptions"] == {"mode": "token", "secretName": "vidmill-ray-token"}
    assert "AWS_SECRET_ACCESS_KEY" not in json.dumps(spec)
    for group in groups(spec).values():
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert container["envFrom"] == [{"secretRef": {"name": "vidmill-s3"}}]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {"readinessProbe", "livenessProbe"} <= container.keys()


@pytest.mark.parametrize("name", FILES)
def test_ray_is_the_one_we_have_and_knows_its_options(name: str) -> None:
    spec = cluster_spec(name)
    assert spec["rayVersion"] == ray.__version__
    for group in groups(spec).values():
        start.make_context("start", [f"--{option}={value}" for option, value in group["rayStartParams"].items()])


def test_the_job_has_the_same_cluster_and_a_configuration_that_loads(tmp_path: Path) -> None:
    text, job = documents("rayjob.yaml")
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    mounted = head["containers"][0].pop("volumeMounts")
    assert head.pop("volumes") == [{"name": mounted[0]["name"], "configMap": {"name": text["metadata"]["name"]}}]
    assert job["spec"]["rayClusterSpec"] == cluster_spec("raycluster.yaml")
    (name,) = text["data"]
    assert job["spec"]["entrypoint"].split() == ["vidmill", "run", f"{mounted[0]['mountPath']}/{name}", "--json"]
    (tmp_path / name).write_text(text["data"][name])
    config = load(tmp_path / name, {})
    assert config.cluster.address == "auto"
    assert config.cluster.gpus == job["spec"]["rayClusterSpec"]["workerGroupSpecs"][1]["maxReplicas"]
