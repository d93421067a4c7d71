"""The simulated engine: continuous batching over a block prefix cache, without sockets."""
