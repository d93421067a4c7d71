"""What a gateway costs: CPU, latency and memory of ours and of others, on the same work."""
