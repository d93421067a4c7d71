"""KV caches handed from one simulated server to another, as real connectors do it."""
