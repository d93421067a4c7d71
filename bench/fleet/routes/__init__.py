"""What a simulated server answers: one module an API family."""
