"""Levels of the topology: which node labels say how near two nodes are.

A *scheme* holds trees of levels, broad to narrow. The network is one tree, down to the host; what
NVLink connects is another, as it crosses the first. Keys are configuration: no standard fixed
them. Presets are those that are found on clusters, with their sources.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from endpoints.allocation.needs import NODE_LEVEL
from endpoints.allocation.nodes import HOSTNAME, Node
from endpoints.allocation.raw import InventoryError, Raw, items, mapping, name_of, text

CLIQUE = "nvidia.com/gpu.clique"


class Level(NamedTuple):
    """One level: its name, and the node label whose value names the domain.

    ``prefix``: only what stands before the value's last dot does. ``or_host``: a node without the
    label is a domain of its own.
    """

    name: str
    label: str
    prefix: bool = False
    or_host: bool = False

    def value(self, node: Node) -> str | None:
        """The node's domain at this level; None when it has none."""
        found = node.label(self.label)
        if found is None:
            return node.name if self.or_host else None
        return (found.rpartition(".")[0] or found) if self.prefix else found


HOST = Level(NODE_LEVEL, HOSTNAME)


class Scheme(NamedTuple):
    """Trees of levels, each broad to narrow; level names are unique."""

    name: str
    trees: tuple[tuple[Level, ...], ...]

    def levels(self) -> tuple[Level, ...]:
        """All levels, tree by tree."""
        return tuple(level for tree in self.trees for level in tree)

    def level(self, name: str) -> Level:
        """By name, or by node label. ValueError names those that there are."""
        for level in self.levels():
            if name in (level.name, level.label) and not (level.prefix and name == level.label):
                return level
        known = ", ".join(level.name for level in self.levels())
        raise ValueError(f"the topology has no level {name!r}; there are {known}")

    def path(self, name: str) -> tuple[Level, ...]:
        """The levels from the top of its tree down to this one."""
        level = self.level(name)
        tree = next(tree for tree in self.trees if level in tree)
        return tree[: tree.index(level) + 1]


_CLOUD = (
    Level("region", "topology.kubernetes.io/region"),
    Level("zone", "topology.kubernetes.io/zone"),
)
_NVLINK = (
    Level("nvlink-rack", CLIQUE, prefix=True, or_host=True),
    Level("nvlink", CLIQUE, or_host=True),
)


def _fabric(*levels: tuple[str, str]) -> tuple[Level, ...]:
    return (*_CLOUD, *(Level(name, label) for name, label in levels), HOST)


PRESETS: Mapping[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        # NVIDIA topograph, docs/reference/node-labels.md: tier 0 is next to the node.
        Scheme(
            "topograph",
            (
                _fabric(
                    ("core", "fabric.topograph.run/tier-2"),
                    ("spine", "fabric.topograph.run/tier-1"),
                    ("leaf", "fabric.topograph.run/tier-0"),
                ),
                (
                    Level("accelerator", "accelerator.topograph.run/domain", or_host=True),
                    Level("sub-accelerator", "accelerator.topograph.run/sub-domain", or_host=True),
                ),
                _NVLINK,
            ),
        ),
        # The same project before its labels were renamed.
        Scheme(
            "topograph-legacy",
            (
                _fabric(
                    ("core", "network.topology.nvidia.com/core"),
                    ("spine", "network.topology.nvidia.com/spine"),
                    ("leaf", "network.topology.nvidia.com/leaf"),
                ),
                (Level("accelerator", "network.topology.nvidia.com/accelerator", or_host=True),),
                _NVLINK,
            ),
        ),
        # Layer 1 is the top there, the other way round than topograph's tiers.
        Scheme(
            "aws",
            (
                _fabric(
                    ("core", "topology.k8s.aws/network-node-layer-1"),
                    ("spine", "topology.k8s.aws/network-node-layer-2"),
                    ("leaf", "topology.k8s.aws/network-node-layer-3"),
                ),
                (Level("accelerator", "topology.k8s.aws/ultraserver-id", or_host=True),),
                _NVLINK,
            ),
        ),
        Scheme(
            "gcp",
            (
                _fabric(
                    ("block", "cloud.google.com/gce-topology-block"),
                    ("leaf", "cloud.google.com/gce-topology-subblock"),
                ),
                _NVLINK,
            ),
        ),
        Scheme(
            "oci",
            (
                _fabric(
                    ("block", "oci.oraclecloud.com/host.network_block_id"),
                    ("leaf", "oci.oraclecloud.com/host.rack_id"),
                ),
                _NVLINK,
            ),
        ),
        # The GPU Operator's label, which only nodes with multi-node NVLink have.
        Scheme("nvidia-clique", (_fabric(), _NVLINK)),
        Scheme("cloud", (_fabric(),)),
    )
}
_NAMES = {level.label: level.name for scheme in PRESETS.values() for level in scheme.levels()}
_TOPOLOGIES = ("kai.scheduler", "kueue.x-k8s.io", "grove.io")


def is_topology(item: Raw) -> bool:
    """Whether an object is a topology of KAI, Kueue or Grove."""
    group = str(item.get("apiVersion", "")).partition("/")[0]
    return group in _TOPOLOGIES and str(item.get("kind")) in {
        *("Topology", "ClusterTopology", "ClusterTopologyBinding"),
    }


def scheme_of(item: Raw) -> Scheme:
    """The levels of a KAI or Kueue Topology, or a Grove ClusterTopology(Binding).

    They list levels broad to narrow: ``nodeLabel``, or with Grove ``domain`` and ``key``. A level
    of KAI and Kueue is named as presets name its label, else by the label's last part. What
    NVLink connects joins as a tree of its own. Raises InventoryError.
    """
    name = name_of(item)
    at = f"{item.get('kind')} {name}.spec"
    found: list[Level] = []
    for place, one in items(mapping(item, "spec", at), "levels", at):
        label = text(one, "key" if "key" in one else "nodeLabel", place)
        known = _NAMES.get(label) or label.rpartition("/")[2]
        found.append(Level(str(one.get("domain") or known), label))
    names = [level.name for level in found]
    if not found or len(set(names)) < len(names):
        raise InventoryError(f"{at}.levels: are missing, or two have one name")
    host = [] if HOSTNAME in {level.label for level in found} else [HOST]
    if host and NODE_LEVEL in names:
        raise InventoryError(f"{at}.levels: the level {NODE_LEVEL} is not the host")
    nvlink = () if CLIQUE in {level.label for level in found} else (_NVLINK,)
    return Scheme(name, ((*found, *host), *nvlink))


def scheme_from_labels(name: str, labels: Iterable[tuple[str, str]]) -> Scheme:
    """A scheme from (level, label) pairs, broad to narrow, as a user configures it."""
    levels = tuple(Level(level, label) for level, label in labels if level != NODE_LEVEL)
    return Scheme(name, ((*levels, HOST), _NVLINK))


def detect(nodes: Iterable[Node]) -> Scheme:
    """The preset whose own labels most nodes have.

    ``nvidia-clique`` when they have only that label, ``cloud`` when they have none.
    """
    shared = {level.label for level in (*_CLOUD, *_NVLINK, HOST)}
    owners = {
        level.label: scheme.name
        for scheme in PRESETS.values()
        for level in scheme.levels()
        if level.label not in shared
    }
    counts: dict[str, int] = {}
    cliques = False
    for node in nodes:
        cliques = cliques or CLIQUE in node.labels
        for label in node.labels.keys() & owners.keys():
            counts[owners[label]] = counts.get(owners[label], 0) + 1
    if counts:
        return PRESETS[max(sorted(counts), key=lambda name: counts[name])]
    return PRESETS["nvidia-clique" if cliques else "cloud"]
