"""Endpoints from a Kubernetes cluster: InferencePools and their pods, objectives, model rewrites,
and plain headless Services for clusters without those definitions.

What objects mean is pure (`pools`, `pods`, `labels`, `slices`, `objectives`, `rewrites`);
`members` keeps one pool's endpoints up to date, `discovery` all of them.
"""
