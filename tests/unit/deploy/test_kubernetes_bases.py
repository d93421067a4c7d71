"""deploy/kubernetes: complete, hardened, and in step with settings and tested configurations."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import Settings, from_text
from tests.support.envoy import ORIGINAL_DST, OVERRIDE_HOST, cluster_of
from tests.support.kustomizations import KUBERNETES, Built, Object, build

BASES = ("gateway", "extproc", "envoy-original-dst", "envoy-override-host")
ENVOYS = {"envoy-original-dst": ORIGINAL_DST, "envoy-override-host": OVERRIDE_HOST}


@pytest.fixture(params=BASES)
def built(request: pytest.FixtureRequest) -> Built:
    return build(KUBERNETES / request.param)


def pod_of(built: Built) -> Object:
    pod: Object = built.one("Deployment")["spec"]["template"]
    return pod


def containers(built: Built) -> dict[str, Object]:
    return {one["name"]: one for one in pod_of(built)["spec"]["containers"]}


def settings_of(built: Built) -> Settings:
    """Inferway's own settings, read as it reads them."""
    [file] = [files["inferway.yaml"] for files in built.config_files.values() if _ours(files)]
    return from_text(file.read_text(), file.name)


def _ours(files: dict[str, Path]) -> bool:
    return "inferway.yaml" in files


def ports_of(container: Object) -> dict[str, int]:
    return {one["name"]: one["containerPort"] for one in container["ports"]}


def test_every_directory_is_a_base_or_part_of_one() -> None:
    directories = {
        path.name for path in KUBERNETES.iterdir() if (path / "kustomization.yaml").is_file()
    }
    assert directories == {*BASES, "envoy"}


def test_every_object_has_its_kind_and_a_name_of_its_own(built: Built) -> None:
    names = [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in built.objects]
    assert len(set(names)) == len(names)


def test_containers_are_hardened(built: Built) -> None:
    pod = pod_of(built)["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10_001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for one in pod["containers"]:
        context = one["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= set(one["resources"]["requests"])
        assert "memory" in one["resources"]["limits"]
        assert ":" in one["image"], "an image without a tag"
        assert not one["image"].endswith(":latest")


def test_containers_are_probed_where_they_listen(built: Built) -> None:
    for one in containers(built).values():
        ports = ports_of(one)
        assert {"startupProbe", "readinessProbe"} <= set(one)
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = one.get(name, {})
            how = probe.get("httpGet") or probe.get("tcpSocket")
            assert how is None or how["port"] in ports
    ours = containers(built)["inferway"]
    assert ours["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert ours["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_ports_are_those_of_the_settings(built: Built) -> None:
    settings = settings_of(built)
    ports = ports_of(containers(built)["inferway"])
    assert ports["admin"] == settings.admin.port
    assert settings.admin.host == "0.0.0.0"
    if settings.extproc is not None:
        assert ports["grpc"] == settings.extproc.port
    if settings.gateway_api is not None:
        listened = {one.gateway: one.listen for one in settings.gateway_api.ports}
        assert listened == {80: ports["http"], 443: ports["https"]}
        assert settings.listen.port not in ports.values()
        assert settings.listen.host == "127.0.0.1"
    assert all(port >= 1024 for port in ports.values())


def test_the_grace_period_lets_requests_finish(built: Built) -> None:
    settings, pod = settings_of(built), pod_of(built)["spec"]
    drain = max(
        settings.proxy.drain_seconds,
        0.0 if settings.extproc is None else settings.extproc.drain_seconds,
    )
    pause = containers(built)["inferway"]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] >= drain + pause


def test_what_is_mounted_is_there(built: Built) -> None:
    pod = pod_of(built)["spec"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    configs = {one["metadata"]["name"]: one["data"] for one in built.of("ConfigMap")}
    for container in pod["containers"]:
        mounts = {one["mountPath"]: volumes[one["name"]] for one in container["volumeMounts"]}
        file = Path(container["args"][container["args"].index(_config_flag(container)) + 1])
        assert file.name in configs[mounts[str(file.parent)]["configMap"]["name"]]
    assert volumes["tmp"]["emptyDir"]["medium"] == "Memory"


def _config_flag(container: Object) -> str:
    return "--config-path" if container["name"] == "envoy" else "--config"


def test_services_policies_and_budgets_select_the_pods(built: Built) -> None:
    labels = pod_of(built)["metadata"]["labels"]
    every = {name: port for one in containers(built).values() for name, port in _named(one)}
    assert built.one("Deployment")["spec"]["selector"]["matchLabels"] == labels
    service = next(one for one in built.of("Service") if one["spec"]["selector"] == labels)
    assert {one["targetPort"] for one in service["spec"]["ports"]} <= set(every)
    budget = built.one("PodDisruptionBudget")["spec"]
    assert budget["selector"]["matchLabels"] == labels
    assert budget["maxUnavailable"] == 1
    policy = built.one("NetworkPolicy")["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    opened = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    assert {one["targetPort"] for one in service["spec"]["ports"]} | {"admin"} == opened
    [admin] = [rule for rule in policy["ingress"] if {"port": "admin"} in rule["ports"]]
    assert admin["from"]


def _named(container: Object) -> list[tuple[str, int]]:
    return list(ports_of(container).items())


def test_the_service_account_is_bound_to_its_role(built: Built) -> None:
    account = built.one("ServiceAccount")["metadata"]["name"]
    assert pod_of(built)["spec"]["serviceAccountName"] == account
    kind = "ClusterRole" if built.of("ClusterRole") else "Role"
    binding = built.one(f"{kind}Binding")
    assert binding["roleRef"]["name"] == built.one(kind)["metadata"]["name"]
    assert [one["name"] for one in binding["subjects"]] == [account]
    for rule in built.one(kind)["rules"]:
        assert "*" not in (*rule["verbs"], *rule["resources"], *rule["apiGroups"])
        if any(one.endswith("/status") for one in rule["resources"]):
            assert rule["verbs"] == ["patch"]
        else:
            assert rule["verbs"] == ["get", "list", "watch"]


@pytest.mark.parametrize("base", ENVOYS)
def test_envoy_gets_the_very_file_that_the_tests_start(base: str) -> None:
    built = build(KUBERNETES / base)
    volumes: Any = pod_of(built)["spec"]["volumes"]
    [config] = [one["configMap"]["name"] for one in volumes if one["name"] == "envoy"]
    file = built.config_files[config]["envoy.yaml"]
    assert file == ENVOYS[base]
    config = yaml.safe_load(file.read_text())
    listener = config["static_resources"]["listeners"][0]["address"]["socket_address"]
    assert listener["port_value"] == ports_of(containers(built)["envoy"])["http"]
    settings = settings_of(built)
    assert settings.extproc is not None
    picker = cluster_of(config, "inferway")["load_assignment"]["endpoints"][0]["lb_endpoints"][0]
    assert picker["endpoint"]["address"]["socket_address"] == {
        "address": settings.extproc.host,
        "port_value": settings.extproc.port,
    }
    servers = built.one("Service", "model-servers")["spec"]
    assert servers["clusterIP"] == "None"
    pool = cluster_of(config, "pool")
    if base == "envoy-override-host":
        [one] = pool["load_assignment"]["endpoints"][0]["lb_endpoints"]
        assert one["endpoint"]["address"]["socket_address"] == {
            "address": "model-servers",
            "port_value": servers["ports"][0]["targetPort"],
        }
    else:
        assert settings.extproc.fallbacks == 0  # one address is all that it understands
    assert settings.kubernetes is not None
    assert settings.kubernetes.services[0].name == "model-servers"


def test_the_gateway_class_is_the_one_that_the_settings_serve() -> None:
    built = build(KUBERNETES / "gateway")
    settings = settings_of(built)
    assert settings.gateway_api is not None
    controller = built.one("GatewayClass")["spec"]["controllerName"]
    assert controller == settings.gateway_api.controller
    service = built.one("Service")["metadata"]
    assert settings.gateway_api.service == f"{service['namespace']}/{service['name']}"
