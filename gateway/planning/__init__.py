"""The command that says where a pool's replicas would go, and why not elsewhere."""
