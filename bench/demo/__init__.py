"""The demo: a slice of real traffic, first with one policy and then with another."""
