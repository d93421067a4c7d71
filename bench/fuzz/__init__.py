"""Fuzzing the proxy's HTTP/1.1: mutated connections against independent, strict readers.

`strict` reads both sides with h11 and a grammar of its own, `server` records what reaches an
endpoint, `trial` sends one mutated connection through a fresh proxy and judges the outcome,
`mutations` generates requests and responses. ``python -m bench.fuzz --minutes 10`` runs it.
"""
