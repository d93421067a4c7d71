"""The data plane: an HTTP/1.1 reverse proxy of asyncio protocols over llhttp.

A request's way through it, one module a stop::

    client bytes -> client.ClientConnection   parses, keeps pipelined requests in order
                 -> exchange.Exchange         reads the call, asks the router, owns retries
                 -> pool.EndpointPool         lends a connection to the chosen endpoint
                 -> upstream.UpstreamConnection   sends it, parses the response
    response     -> exchange.Exchange         meters it, frames it, relays it
                 -> client.ClientConnection   writes it, then turns to the next request

Parser callbacks only move data; decisions live in the exchange. No task runs per request
or per chunk: a task exists only while a new connection to an endpoint is being opened.
"""
