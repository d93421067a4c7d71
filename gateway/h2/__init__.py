"""HTTP/2 (RFC 9113) as much as a server needs that speaks gRPC: bytes in, bytes out, no I/O.

`frames` says what bytes mean and `assembly` finds them; `connection` is the connection's state
machine and `stream` that of one stream; `sender` and `windows` keep flow control; `headers` reads
and writes field blocks; `limits` says what a peer may do.
"""
