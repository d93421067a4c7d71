"""From a plan to objects of the cluster: claim templates, pods, and what keeps gangs whole. Pure.

Objects are plain dicts as the API server's JSON has them, complete with owner reference and
labels, and hold nothing that we do not want to own: they are made for server-side apply.
"""
