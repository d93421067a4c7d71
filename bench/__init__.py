"""Proof: simulated model servers, recorded traffic, and the commands that use them."""
