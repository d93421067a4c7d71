"""Replaying traffic through the real router in virtual time, before simulated engines."""
