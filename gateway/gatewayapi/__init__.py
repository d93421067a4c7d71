"""The proxy as a Gateway API implementation: objects of a cluster in, ports and statuses out.

`plan` is pure: a `Snapshot` of the objects becomes a `Plan`, route tables for each port and the
status that each object should have. `controller` only keeps the snapshot and applies the plan.
"""
