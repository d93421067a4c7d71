"""The fleet's outside: which endpoints exist, which engine each runs, and how it does now.

``discovery`` says what should exist, ``engines`` how each engine speaks, ``probes`` visits
the endpoints and tells `routing.fleet.Fleet` what it saw.
"""
