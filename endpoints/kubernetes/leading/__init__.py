"""Which of several processes acts: one candidate a process, one Lease for all of them.

`election` is the protocol, pure; `leader` reads and writes the Lease; `reign` runs what only the
one that leads may do.
"""
