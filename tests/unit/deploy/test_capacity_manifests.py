"""deploy/kubernetes/capacity: two controllers, the right to elect one, options that there are."""

from typing import Any

import yaml
from typer.main import get_command_from_info
from typer.models import CommandInfo

from gateway.placing.command import capacity
from tests.support.kustomizations import KUBERNETES

_DIRECTORY = KUBERNETES / "capacity"


def _objects(file: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((_DIRECTORY / file).read_text()))


def test_two_run_and_each_is_started_with_options_that_there_are() -> None:
    (deployment,) = _objects("controller.yaml")
    assert deployment["spec"]["replicas"] == 2
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    command = get_command_from_info(
        CommandInfo(callback=capacity, context_settings={}),
        pretty_exceptions_short=True,
        rich_markup_mode=None,
    )
    known = {name for option in command.params for name in option.opts}
    first, *options = container["args"]
    assert first == "capacity"
    given = dict(option.split("=", 1) for option in options)
    assert given.keys() <= known
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert given["--admin-port"] == str(ports["admin"])
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "admin"}


def test_who_runs_may_write_the_lease_of_its_own_namespace_and_no_other() -> None:
    objects = _objects("rbac.yaml")
    (role,) = [one for one in objects if one["kind"] == "Role"]
    rights = [one for one in role["rules"] if "leases" in one["resources"]]
    verbs = {verb: rule.get("resourceNames") for rule in rights for verb in rule["verbs"]}
    assert verbs == {"create": None, "get": ["inferway-capacity"], "update": ["inferway-capacity"]}
    (binding,) = [one for one in objects if one["kind"] == "RoleBinding"]
    (deployment,) = _objects("controller.yaml")
    assert role["metadata"]["namespace"] == deployment["metadata"]["namespace"]
    (subject,) = binding["subjects"]
    assert subject["name"] == deployment["spec"]["template"]["spec"]["serviceAccountName"]
    everywhere = [one for one in objects if one["kind"] == "ClusterRole"]
    assert not any("leases" in rule["resources"] for one in everywhere for rule in one["rules"])
