"""Discovery: which endpoints should exist, and making the fleet agree with it."""
