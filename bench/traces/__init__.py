"""Recorded traffic: reading it, and turning it into requests."""
