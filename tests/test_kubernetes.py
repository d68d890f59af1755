"""deploy/kubernetes.yaml of each queue: Kubernetes takes it, and its numbers and names are those of the project."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml  # type: ignore[import-untyped]
from rendering import Answers, Project, bake
from running import settings_of
from test_docker import instructions, seconds_to_stop
from variants import part

VERSIONS = ("1.29.0", kubernetes_validate.latest_version())
ENDPOINTS_SECONDS = 10  # until a balancer has heard that a pod goes, as README.md says


@pytest.fixture
def project(variant: Answers, render: Callable[..., Project]) -> Project:
    return render(**variant)


@pytest.fixture
def objects(project: Project) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(project.read("deploy/kubernetes.yaml")))


@pytest.fixture
def pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What each Deployment makes, by the name of its one container."""
    specs = [each["spec"]["template"]["spec"] for each in objects if each["kind"] == "Deployment"]
    return {container["name"]: spec | {"container": container} for spec in specs for container in spec["containers"]}


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_it(version: str, objects: list[dict[str, Any]]) -> None:
    """By the schema of its API, without a field that this does not know."""
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(objects[0] | {"spec": {"ports": [{"port": "http"}]}}, version, strict=True)


def test_each_process_has_its_deployment(project: Project, objects: list[dict[str, Any]]) -> None:
    """Web is behind a service. Where there may be several of each, a budget keeps all but one while nodes are drained;
    with none to spare it could only forbid that."""
    kinds = [f"{each['kind']} {each['metadata']['name'].removeprefix(project.path.name)}" for each in objects]
    durable = project.answers["queue_backend"] != "none"
    budgets = ["PodDisruptionBudget -web", "PodDisruptionBudget -worker"]
    workers = ["Deployment -worker", *budgets] if durable else []
    assert kinds == ["Service ", "Deployment -web", *workers]
    for each in objects:
        name = each["metadata"]["name"]
        selector = each["spec"]["selector"].get("matchLabels", each["spec"]["selector"])
        of = f"{name}-web" if each["kind"] == "Service" else name
        assert selector == labels_of(objects, of)
        if each["kind"] == "Deployment":
            assert (each["spec"]["replicas"] > 1) == durable
            assert each["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def labels_of(objects: list[dict[str, Any]], name: str) -> Any:
    (labels,) = (
        each["spec"]["template"]["metadata"]["labels"]
        for each in objects
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", name)
    )
    return labels


def test_its_pods_may_do_little(project: Project, pods: dict[str, dict[str, Any]]) -> None:
    """As in compose.yaml: the image's user, by its number; no capability; a root that is read-only; signals that
    arrive from the first moment."""
    user = int(dict(instructions(project.read("Dockerfile")))["USER"])
    for pod in pods.values():
        seccomp = {"type": "RuntimeDefault"}
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "seccompProfile": seccomp,
        }
        assert pod["automountServiceAccountToken"] is False
        assert pod["shareProcessNamespace"] is True
        assert pod["container"]["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        (volume,) = pod["volumes"]
        assert pod["container"]["volumeMounts"] == [{"name": volume["name"], "mountPath": "/tmp"}]
        assert volume["emptyDir"] == {}


def test_its_seconds_follow_from_the_settings(project: Project, pods: dict[str, dict[str, Any]]) -> None:
    """No time to stop is shorter than what it waits for, or much longer. What waits before SIGTERM is part of it."""
    needed = seconds_to_stop(project)
    for name, pod in pods.items():
        pause = ENDPOINTS_SECONDS if name == "web" else 0
        hook = {"preStop": {"exec": {"command": ["sleep", str(pause)]}}}
        assert pod["container"].get("lifecycle") == (hook if pause else None)
        assert 1 < pod["terminationGracePeriodSeconds"] / (needed[name] + pause) <= 1.3
    assert f"sleeps for {ENDPOINTS_SECONDS} s" in project.read("README.md")


def test_it_is_asked_for_its_health_as_compose_does(project: Project, pods: dict[str, dict[str, Any]]) -> None:
    composed = yaml.safe_load(project.read("compose.yaml"))["services"]
    port = int(dict(instructions(project.read("Dockerfile")))["EXPOSE"])
    for name, pod in pods.items():
        container, check = pod["container"], composed[name]["healthcheck"]
        for probe in (container["startupProbe"], container["livenessProbe"]):
            if name == "web":
                assert f":{port}{probe['httpGet']['path']}'" in check["test"][-1]
            else:
                assert probe["exec"]["command"] == check["test"][1:]
        assert container["livenessProbe"]["periodSeconds"] == int(check["interval"].rstrip("s"))
        assert container["livenessProbe"]["timeoutSeconds"] == int(check["timeout"].rstrip("s"))
        command = composed[name].get("command", [])
        assert container.get("command", [])[: len(command)] == command
    assert pods["web"]["container"]["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "http"}
    assert pods["web"]["container"]["ports"] == [{"name": "http", "containerPort": port}]


def test_what_is_secret_comes_from_the_secret_that_it_says_to_make(
    project: Project, pods: dict[str, dict[str, Any]]
) -> None:
    """Each is a setting: the model's key, the address of each service, and, for web alone, how callers are known."""
    settings = settings_of(project)
    secret = {name for name in settings if re.search("._API_KEY$|^REDIS_URL$|^BROKER_URL$", name)}
    callers = {
        name.strip() for name in part(project.answers["auth"], "kubernetes/callers").read_text("utf-8").split(",")
    }
    head = re.findall(r"^#.*", project.read("deploy/kubernetes.yaml"), re.MULTILINE)
    assert secret | callers <= set(re.findall(r"\w+", " ".join(head)))
    assert "/*.env" in project.read(".gitignore").splitlines()  # the Secret is made of such a file
    for component, pod in pods.items():
        expected = secret | callers if component == "web" else secret
        env = {each["name"]: each for each in pod["container"]["env"]}
        assert set(env) <= set(settings)
        assert {name for name, each in env.items() if "valueFrom" in each} == expected
        for name in expected:
            assert env[name]["valueFrom"] == {"secretKeyRef": {"name": project.path.name, "key": name}}
        assert env["ENVIRONMENT"]["value"] == "production"


def test_a_name_that_yaml_would_read_as_something_else_stays_one(template: Path, tmp_path: Path) -> None:
    """`on` is true to many a reader of YAML."""
    project = bake(tmp_path / "out", {"project_slug": "on", "queue_backend": "rq"}, template, env={"UV_OFFLINE": "1"})
    objects = list(yaml.safe_load_all(project.read("deploy/kubernetes.yaml")))
    assert {str(each["metadata"]["name"]) for each in objects} == {"on", "on-web", "on-worker"}
    services = yaml.safe_load(project.read("compose.yaml"))["services"]
    assert {services[name]["image"] for name in ("web", "worker")} == {"on"}
    for each in objects:
        kubernetes_validate.validate(each, VERSIONS[0], strict=True)
