"""Envoy's external processor: the brain behind any Gateway API implementation or a bare Envoy.

Three layers that know nothing of each other: `gateway.h2` and `gateway.rpc` carry gRPC messages,
`session` turns processing messages into processing messages, and the brain (`routing.Router`)
chooses. They meet in `processor`.
"""
