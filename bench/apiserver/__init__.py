"""A stand-in for the Kubernetes API server, faithful on the wire: for tests and benches.

No scheduler, no controllers but garbage collection, no admission. `Store` is the state machine,
`ApiServer` puts it on a socket. ``python -m bench.apiserver`` runs one on its own.
"""
