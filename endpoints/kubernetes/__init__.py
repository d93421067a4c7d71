"""The Kubernetes API as this project uses it: raw objects, one cache a resource, typed errors.

Nothing here knows of inference: discovery, scaling and allocation are built on it.
"""
