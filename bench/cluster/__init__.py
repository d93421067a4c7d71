"""A cluster without machines: nodes with devices, a scheduler for claims, and kubelets.

`allocating` and `placing` decide as Kubernetes does (first fit, pod by pod, no scoring of
devices), written apart from `endpoints.allocation`'s planner, so that one can check the other.
`agents` run them against an API server; `simulation` in virtual time.
"""
