"""Which of the cluster's devices a pool's replicas can have, and where: DRA read, gangs placed."""
