"""Proof for the planner of devices: an exhaustive search to compare with, and a large cluster."""
