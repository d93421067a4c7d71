"""Scaling policies against hours of traffic: the real router and scaler, simulated engines."""
