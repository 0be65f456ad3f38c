"""The manifests, built as `kubectl apply -k` builds them and checked without a cluster."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from ensemble.serving.triton.metrics import HELP
from tests.containers.tools import CONTAINERS, KUBERNETES, TOOLS, built, documents, of_kind, pod_of
from tests.served import Served

DASHBOARD = CONTAINERS / "grafana" / "retrieval.json"
DIRECTORIES = sorted(path.parent.name for path in KUBERNETES.rglob("kustomization.yaml"))
METRIC = re.compile(r"\b(?:nv|retrieval)_[a-z0-9_]+\b")
SERVING = ["volume", "object-storage"]
ADAPTED = "retrieval_queue_seconds"
"""What prometheus-adapter makes; no server has it."""


def complaints(manifests: list[Any], *options: str) -> str:
    """Return what the schemas, or the parser of PromQL, have against objects."""
    command = [TOOLS / "python", Path(__file__).with_name("validate.py"), *options]
    done = subprocess.run(command, input=json.dumps(manifests), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_object_is_of_its_schema() -> None:
    manifests = [manifest for directory in DIRECTORIES for manifest in built(directory)]
    broken = json.loads(json.dumps([of_kind("monitoring", "ServiceMonitor"), of_kind("base", "Deployment")]))
    broken[0]["spec"]["endpoints"][0]["intervall"] = "15s"
    broken[1]["spec"]["template"]["spec"]["container"] = []
    problems = complaints([*manifests, *broken]).splitlines()
    assert [line.split()[0] for line in problems] == ["ServiceMonitor", "Deployment"], (
        "of what was broken, and nothing else"
    )


@pytest.mark.parametrize("directory", [*SERVING, "train", "train-gpu"])
def test_what_a_pod_refers_to_is_there(directory: str) -> None:
    manifests = [manifest for folder in {directory, "volume"} for manifest in built(folder)]
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    (workload,) = [manifest for manifest in built(directory) if manifest["kind"] in ("Deployment", "Job")]
    pod = pod_of(workload)
    assert ("ServiceAccount", pod["serviceAccountName"]) in names
    volumes = {entry["name"]: entry for entry in pod["volumes"]}
    for volume in volumes.values():
        if "persistentVolumeClaim" in volume:
            assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in names
        if "configMap" in volume:
            assert ("ConfigMap", volume["configMap"]["name"]) in names
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                assert ("ConfigMap", source["configMapRef"]["name"]) in names


@pytest.mark.parametrize("directory", SERVING)
def test_services_policies_and_monitors_select_the_serving_pods(directory: str) -> None:
    deployment = of_kind(directory, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    service, policy = of_kind(directory, "Service"), of_kind(directory, "NetworkPolicy")
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        policy["spec"]["podSelector"]["matchLabels"],
        of_kind(directory, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ]
    assert all(selector.items() <= labels for selector in selectors)
    monitored = of_kind("monitoring", "ServiceMonitor")["spec"]
    assert monitored["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ports = {port["name"] for container in pod_of(deployment)["containers"] for port in container["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    assert {endpoint["port"] for endpoint in monitored["endpoints"]} <= {
        port["name"] for port in service["spec"]["ports"]
    }
    clients = policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert clients == {"retrieval.client": "true"}, "a client would need the labels of a server"


@pytest.mark.parametrize("directory", [*SERVING, "train-gpu"])
def test_containers_run_without_rights(directory: str) -> None:
    (workload,) = [manifest for manifest in built(directory) if manifest["kind"] in ("Deployment", "Job")]
    pod = pod_of(workload)
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"]
        assert not rights["allowPrivilegeEscalation"]
        assert rights["capabilities"]["drop"] == ["ALL"]
        assert container["resources"]["limits"]["memory"]
        models = [mount for mount in container["volumeMounts"] if mount["name"] == "models"]
        assert container["name"] == "fetch" or all(mount["readOnly"] for mount in models)


def test_what_is_in_flight_is_answered_before_a_pod_is_killed() -> None:
    pod = pod_of(of_kind("base", "Deployment"))
    waited = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    (answering,) = re.findall(r"--exit-timeout-secs=(\d+)", (CONTAINERS / "serve.sh").read_text(encoding="utf-8"))
    assert pod["terminationGracePeriodSeconds"] > waited + int(answering)


def expressions() -> list[str]:
    """Return every PromQL expression: rules, adapter, dashboard, with their placeholders filled in."""
    rules = of_kind("monitoring", "PrometheusRule")["spec"]["groups"]
    (adapter,) = documents((KUBERNETES / "monitoring" / "prometheus-adapter.yaml").read_text(encoding="utf-8"))
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    texts = [rule["expr"] for group in rules for rule in group["rules"]]
    texts += [rule[key] for rule in adapter["rules"]["custom"] for key in ("seriesQuery", "metricsQuery")]
    texts += [target["expr"] for panel in panels for target in panel.get("targets", [])]
    filled = {"<<.GroupBy>>": "pod", "<<.LabelMatchers>>": 'pod="a"', "$__rate_interval": "1m"}
    for placeholder, value in filled.items():
        texts = [text.replace(placeholder, value) for text in texts]
    return texts


def test_every_expression_is_promql() -> None:
    problems = complaints([*expressions(), "rate(a[5m"], "--promql").splitlines()
    assert [line.split(":")[0] for line in problems] == ["rate(a[5m"], "the broken one, and nothing else"


@pytest.mark.server
def test_every_metric_that_is_named_is_one_that_the_server_exports(served: Served) -> None:
    place = served.server.addresses
    with urllib.request.urlopen(f"http://{place.host}:{place.metrics_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    exported = set(re.findall(r"^# TYPE (\S+)", text, flags=re.MULTILINE))
    exported |= {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}
    exported |= set(HELP)  # some are there only once they are counted
    named = set(METRIC.findall(" ".join(expressions())))
    assert named - exported == set()
    (metric,) = of_kind("base", "HorizontalPodAutoscaler")["spec"]["metrics"]
    (adapter,) = documents((KUBERNETES / "monitoring" / "prometheus-adapter.yaml").read_text(encoding="utf-8"))
    assert metric["pods"]["metric"]["name"] == adapter["rules"]["custom"][0]["name"]["as"] == ADAPTED


def test_panels_of_the_dashboard_do_not_overlap() -> None:
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    cells: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        own = {(x + place["x"], y + place["y"]) for x in range(place["w"]) for y in range(place["h"])}
        assert not own & cells, panel["title"]
        assert all(x < 24 for x, _ in own), panel["title"]
        cells |= own
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
