"""Gateways compared before real engines: how soon the first token comes, and what caches did."""
