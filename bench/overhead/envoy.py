"""A bootstrap of Envoy as a plain reverse proxy: one listener, one cluster, round robin."""

from collections.abc import Sequence

_ANY = "type.googleapis.com/envoy.extensions.filters"
_NO_LIMIT = 1_000_000
"""Envoy's default of 1,024 connections and requests a cluster would refuse the bench's load."""


def bootstrap(host: str, port: int, upstream_ports: Sequence[int]) -> dict[str, object]:
    """The configuration that is written to a file as YAML."""
    limits = dict.fromkeys(
        ("max_connections", "max_pending_requests", "max_requests", "max_retries"), _NO_LIMIT
    )
    manager = {
        "@type": f"{_ANY}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": "servers", "timeout": "0s"},
                        }
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_ANY}.http.router.v3.Router"},
            }
        ],
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "clients",
                    "address": _address(host, port),
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": manager,
                                }
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "servers",
                    "type": "STATIC",
                    "lb_policy": "ROUND_ROBIN",
                    "circuit_breakers": {"thresholds": [limits]},
                    "load_assignment": {
                        "cluster_name": "servers",
                        "endpoints": [
                            {
                                "lb_endpoints": [
                                    {"endpoint": {"address": _address(host, upstream)}}
                                    for upstream in upstream_ports
                                ]
                            }
                        ],
                    },
                }
            ],
        }
    }


def _address(host: str, port: int) -> dict[str, object]:
    return {"socket_address": {"address": host, "port_value": port}}
