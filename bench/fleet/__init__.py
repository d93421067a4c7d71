"""Simulated model servers: real sockets and a real batching and cache model, invented text."""
