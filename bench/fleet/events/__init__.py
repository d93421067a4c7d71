"""KV-cache events on ZeroMQ sockets, as vLLM and SGLang publish them."""
