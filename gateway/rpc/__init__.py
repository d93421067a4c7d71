"""gRPC over `gateway.h2`: calls, messages and statuses, and the server that carries them.

A method is a function from a `call.Call` to who receives its messages; what they mean is none of
this package's business.
"""
