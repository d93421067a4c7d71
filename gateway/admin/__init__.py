"""What operators see, on a port of its own: metrics, health, and views into the brain."""
