"""The brain: pure decisions about which endpoint answers a request.

Nothing here opens a socket, starts a thread or reads a clock: every method that
needs the time takes ``now`` (seconds, float, any fixed origin), so that the proxy,
the external processor and the replayer can all run this very code.
"""
