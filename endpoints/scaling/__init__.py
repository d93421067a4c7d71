"""How much of the fleet there should be: signals, decisions, and the actuators that apply them."""
