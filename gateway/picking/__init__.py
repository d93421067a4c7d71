"""Somebody else's endpoint picker, asked over ext-proc as Envoy would ask it.

`wire` is protobuf, `call` the protocol of one request without any socket, `channel` one gRPC
connection, `pickers` those that are in use.
"""
