"""What clients, Envoy and operators talk to: the only package whose sockets face them."""
