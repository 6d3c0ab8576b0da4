"""What KubeRay's own kinds may hold: names, types and what must be there of ray.io/v1, as JSON Schema.

No package carries KubeRay's custom resource definitions, so this is a list of names, read on 2026-11-22 off the types they are generated from
(`ray-operator/apis/ray/v1` of ray-project/kuberay) and the reference of v1.6 (docs.ray.io, KubeRay CRD API reference). What newer releases add is not
in it. Pods are not KubeRay's: they are left to the schemas of Kubernetes itself.
"""

from typing import Any

TEXT, WHOLE, NUMBER, YES_NO, ANY = {"type": "string"}, {"type": "integer"}, {"type": "number"}, {"type": "boolean"}, {"type": "object"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
COUNT = {"type": "integer", "minimum": 0}


def _one_of(*words: str) -> dict[str, Any]:
    return {"enum": list(words)}


def _kind(*required: str, **fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


TEMPLATE = _kind("spec", metadata=ANY, spec=ANY)
AUTHENTICATION = _kind(mode=_one_of("disabled", "token"), secretName=TEXT, enableK8sTokenAuth=YES_NO)
AUTOSCALER = _kind(
    resources=ANY, image=TEXT, imagePullPolicy=TEXT, securityContext=ANY, idleTimeoutSeconds=COUNT, env={"type": "array"}, envFrom={"type": "array"},
    upscalingMode=_one_of("Default", "Aggressive", "Conservative"), version=_one_of("v1", "v2"), volumeMounts={"type": "array"},
)  # fmt: skip
HEAD = _kind(
    "template", template=TEMPLATE, headService=ANY, enableIngress=YES_NO, resources=TEXTS, labels=TEXTS, rayStartParams=TEXTS, serviceType=TEXT,
)  # fmt: skip
WORKERS = _kind(
    "groupName", "minReplicas", "maxReplicas", "template",
    suspend=YES_NO, groupName=TEXT, replicas=COUNT, minReplicas=COUNT, maxReplicas=COUNT, idleTimeoutSeconds=COUNT, resources=TEXTS, labels=TEXTS,
    rayStartParams=TEXTS, template=TEMPLATE, scaleStrategy=ANY, numOfHosts=COUNT,
)  # fmt: skip
CLUSTER = _kind(
    "headGroupSpec",
    upgradeStrategy=ANY, authOptions=AUTHENTICATION, suspend=YES_NO, managedBy=TEXT, autoscalerOptions=AUTOSCALER, headServiceAnnotations=TEXTS,
    enableInTreeAutoscaling=YES_NO, gcsFaultToleranceOptions=ANY, headGroupSpec=HEAD, rayVersion=TEXT,
    workerGroupSpecs={"type": "array", "items": WORKERS},
)  # fmt: skip
JOB = _kind(
    activeDeadlineSeconds=COUNT, backoffLimit=COUNT, rayClusterSpec=CLUSTER, submitterPodTemplate=TEMPLATE, metadata=TEXTS, clusterSelector=TEXTS,
    submitterConfig=ANY, managedBy=TEXT, deletionStrategy=ANY, entrypoint=TEXT, runtimeEnvYAML=TEXT, jobId=TEXT,
    submissionMode=_one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"), entrypointResources=TEXT, entrypointNumCpus=NUMBER,
    entrypointNumGpus=NUMBER, ttlSecondsAfterFinished=COUNT, shutdownAfterJobFinishes=YES_NO, suspend=YES_NO,
)  # fmt: skip
KINDS = {"RayCluster": CLUSTER, "RayJob": JOB}


def schema_of(kind: str) -> dict[str, Any]:
    """Of a whole document."""
    head = {"apiVersion": _one_of("ray.io/v1"), "kind": _one_of(kind), "metadata": ANY}
    return _kind("apiVersion", "kind", "metadata", "spec", **head, spec=KINDS[kind])
