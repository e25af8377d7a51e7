"""docker-compose.yml, Dockerfile and k8s are valid, and name only settings that exist."""

import importlib
import inspect
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from infrastructure import kafka_server as kafka
from infrastructure import postgres_server as postgres

ROOT = Path(__file__).parents[2]
SERVICES = {
    "auth-gateway": "auth_gateway",
    "sync": "sync",
    "hl7-gateway": "hl7_gateway",
    "diagnostics": "diagnostics",
    "alerts": "alerts",
    "simulator": "simulator",
}
PREFIXES = {
    "/auth": "auth-gateway",
    "/sync": "sync",
    "/hl7": "hl7-gateway",
    "/diagnostics": "diagnostics",
    "/alerts": "alerts",
    "/simulator": "simulator",
}
OVERLAYS = {"base": set(SERVICES) - {"simulator"}, "demo": set(SERVICES)}
Resource = dict[str, Any]


@pytest.fixture(scope="module")
def compose() -> Resource:
    loaded = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    assert isinstance(loaded, dict)
    return loaded


@pytest.fixture(scope="module", params=list(OVERLAYS))
def overlay(request: pytest.FixtureRequest) -> tuple[str, list[Resource]]:
    """Name and rendered resources."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: the overlays cannot be rendered")
    command = ["kubectl", "kustomize", f"k8s/{request.param}"]
    rendered = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert rendered.returncode == 0, rendered.stderr
    return request.param, list(yaml.safe_load_all(rendered.stdout))


def of_kind(resources: list[Resource], kind: str) -> dict[str, Resource]:
    return {resource["metadata"]["name"]: resource for resource in resources if resource["kind"] == kind}


def settings_known() -> set[str]:
    """Environment names of all settings classes, chassis and services."""
    catalogue = importlib.import_module("common.runtime.settings")
    classes = [catalogue.RuntimeSettings]
    for package in SERVICES.values():
        module = importlib.import_module(f"{package}.settings")
        classes += [
            member
            for _, member in inspect.getmembers(module, inspect.isclass)
            if issubclass(member, catalogue.ServiceSettings) and member is not catalogue.ServiceSettings
        ]
    names = catalogue.names(classes)
    assert isinstance(names, set)
    return names


def settings_named() -> Iterator[tuple[str, str]]:
    """(where, environment name) of every setting that the deployment files give."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    for service in SERVICES:
        yield from ((f"docker-compose.yml {service}", name) for name in compose["services"][service]["environment"])
    for line in (ROOT / "k8s/base/settings.env").read_text("utf-8").splitlines():
        yield "k8s/base/settings.env", line.partition("=")[0]
    for path in sorted((ROOT / "k8s").glob("*/*.yaml")):
        yield from ((str(path), name) for name in re.findall(r"\b(PS_[A-Z0-9_]+)\b", path.read_text("utf-8")))
    for name in re.findall(r"\b(PS_[A-Z0-9_]+)=", (ROOT / "Dockerfile").read_text("utf-8")):
        yield "Dockerfile", name


def test_only_settings_of_the_catalogue_are_named() -> None:
    missing = [service for service in SERVICES if not (ROOT / "services" / service).exists()]
    assert missing == []
    known = settings_known()
    assert {(where, name) for where, name in settings_named() if name not in known} == set()


def test_compose_runs_every_service(compose: Resource) -> None:
    services = compose["services"]
    for name, package in SERVICES.items():
        assert services[name]["command"] == ["python", "-m", package]
        assert services[name]["healthcheck"]["test"][0] == "CMD"
        assert services[name]["read_only"] is True
        assert {"postgres", "kafka"} <= set(services[name]["depends_on"])
        assert set(json.loads(services[name]["environment"]["PS_PEERS"])) == set(SERVICES)


def test_compose_publishes_on_the_loopback_only(compose: Resource) -> None:
    published = [port for service in compose["services"].values() for port in service.get("ports", [])]
    assert len(published) == 2
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_compose_and_tests_use_the_same_servers(compose: Resource) -> None:
    assert compose["services"]["kafka"]["image"] == kafka.IMAGE
    assert compose["services"]["postgres"]["image"] == postgres.IMAGE
    assert f"<version>{kafka.VERSION}</version>" in kafka.POM.read_text("utf-8")


def test_compose_names_only_volumes_and_files_that_exist(compose: Resource) -> None:
    mounted = [mount for service in compose["services"].values() for mount in service.get("volumes", [])]
    sources = [mount.partition(":")[0] for mount in mounted]
    assert [
        source
        for source in sources
        if source not in compose["volumes"] and not (source.startswith("./") and (ROOT / source).is_file())
    ] == []


def test_the_gateway_has_every_prefix() -> None:
    routes = re.findall(r"~\^(/\w+)\S*\s+([\w-]+);", (ROOT / "compose/nginx.conf").read_text("utf-8"))
    assert dict(routes) == PREFIXES


def test_the_collector_receives_all_three_signals() -> None:
    collector = yaml.safe_load((ROOT / "compose/otel-collector.yaml").read_text("utf-8"))
    for signal in ("traces", "metrics", "logs"):
        pipeline = collector["service"]["pipelines"][signal]
        assert set(pipeline["receivers"]) <= set(collector["receivers"])
        assert set(pipeline["processors"]) <= set(collector["processors"])
        assert set(pipeline["exporters"]) <= set(collector["exporters"])


def test_the_image_is_small_in_rights_and_pinned() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"python:3.11-slim"}
    assert "--require-hashes -r requirements.lock" in text
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE) == ["10001:10001"]
    assert 'CMD ["python", "-m", "suite"]' in text


@pytest.mark.parametrize(
    "path", sorted((ROOT / "k8s").glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_every_file_is_a_valid_resource(path: Path) -> None:
    resources = list(yaml.safe_load_all(path.read_text("utf-8")))
    assert all(isinstance(resource, dict) for resource in resources)
    for resource in resources:
        expect_valid(resource)


def expect_valid(resource: Resource) -> None:
    """kubernetes-validate raises with the path of what is wrong; it knows no Kustomization."""
    if resource["kind"] != "Kustomization":
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


def test_a_wrong_resource_is_refused() -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        expect_valid({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"portz": []}})


def test_an_overlay_renders_what_it_should(overlay: tuple[str, list[Resource]]) -> None:
    name, resources = overlay
    for resource in resources:
        expect_valid(resource)
        assert resource["metadata"]["labels"]["app.kubernetes.io/part-of"] == "practice-studio-integrations"
    assert set(of_kind(resources, "Deployment")) == OVERLAYS[name]
    assert set(of_kind(resources, "Service")) == OVERLAYS[name]
    (settings,) = of_kind(resources, "ConfigMap").values()
    assert set(json.loads(settings["data"]["PS_PEERS"])) == OVERLAYS[name]


def test_ingress_routes_the_prefixes(overlay: tuple[str, list[Resource]]) -> None:
    name, resources = overlay
    (ingress,) = of_kind(resources, "Ingress").values()
    paths = ingress["spec"]["rules"][0]["http"]["paths"]
    routes = {path["path"]: path["backend"]["service"]["name"] for path in paths}
    assert routes == {prefix: service for prefix, service in PREFIXES.items() if service in OVERLAYS[name]}


def test_every_pod_is_confined_and_probed(overlay: tuple[str, list[Resource]]) -> None:
    _, resources = overlay
    settings = set(of_kind(resources, "ConfigMap"))
    for name, deployment in of_kind(resources, "Deployment").items():
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["command"] == ["python", "-m", SERVICES[name]]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        expect_confined(container)
        assert container["envFrom"][0]["configMapRef"]["name"] in settings
        assert pod["terminationGracePeriodSeconds"] >= 30


def expect_confined(container: Mapping[str, Any]) -> None:
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert "memory" in container["resources"]["limits"]
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
