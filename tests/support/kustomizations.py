"""What ``kustomize build`` makes of a base in deploy/, as far as our bases need it."""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
_KNOWN = {
    "apiVersion",
    "kind",
    "namespace",
    "resources",
    "configMapGenerator",
    "images",
    "patches",
}

Object = dict[str, Any]


@dataclass
class Built:
    """Every object of a base, and the files behind its ConfigMaps."""

    objects: list[Object] = field(default_factory=list)
    config_files: dict[str, dict[str, Path]] = field(default_factory=dict)

    def of(self, kind: str) -> list[Object]:
        return [one for one in self.objects if one["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> Object:
        [found] = [one for one in self.of(kind) if name in {None, one["metadata"]["name"]}]
        return found


def build(directory: Path) -> Built:
    """Resolve resources, generators, patches, images and the namespace of a base."""
    spec = yaml.safe_load((directory / "kustomization.yaml").read_text())
    assert set(spec) <= _KNOWN, f"{directory}: kustomize can do {set(spec) - _KNOWN}, we can't"
    built = Built()
    for name in spec.get("resources", ()):
        path = (directory / name).resolve()
        if path.is_dir():
            inner = build(path)
            built.objects += inner.objects
            built.config_files.update(inner.config_files)
        else:
            assert path.parent == directory.resolve(), f"{path} is outside of its base"
            built.objects += [one for one in yaml.safe_load_all(path.read_text()) if one]
    for generator in spec.get("configMapGenerator", ()):
        _generate(built, directory, generator)
    for patch in spec.get("patches", ()):
        _patch(built, yaml.safe_load((directory / patch["path"]).read_text()))
    for image in spec.get("images", ()):
        _retag(built, image)
    if "namespace" in spec:
        for one in built.objects:
            if one["kind"] not in {"ClusterRole", "ClusterRoleBinding", "GatewayClass"}:
                one["metadata"].setdefault("namespace", spec["namespace"])
    return built


def _generate(built: Built, directory: Path, generator: Object) -> None:
    files = {}
    for entry in generator["files"]:
        key, _, name = entry.rpartition("=")
        path = (directory / name).resolve()
        assert path.parent == directory.resolve(), "kustomize reads no files outside of a base"
        files[key or path.name] = path
    built.config_files[generator["name"]] = files
    metadata = {"name": generator["name"]}
    data = {key: path.read_text() for key, path in files.items()}
    built.objects.append(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    )


def _patch(built: Built, patch: Object) -> None:
    target = built.one(patch["kind"], patch["metadata"]["name"])
    _merge(target, patch)


def _merge(into: Object, patch: Object) -> None:
    """A strategic merge: objects by key, lists of named things by name."""
    for key, value in patch.items():
        here = into.get(key)
        if isinstance(value, dict) and isinstance(here, dict):
            _merge(here, value)
        elif isinstance(value, list) and isinstance(here, list):
            for one in value:
                for old in here:
                    if old.get("name") == one["name"]:
                        _merge(old, one)
                        break
                else:
                    here.append(one)
        else:
            into[key] = copy.deepcopy(value)


def _retag(built: Built, image: Object) -> None:
    for deployment in built.of("Deployment"):
        for container in deployment["spec"]["template"]["spec"]["containers"]:
            if container["image"] == image["name"]:
                name = image.get("newName", image["name"])
                container["image"] = f"{name}:{image['newTag']}"
