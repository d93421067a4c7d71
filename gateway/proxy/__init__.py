"""The data plane: an HTTP/1.1 reverse proxy of asyncio protocols over llhttp.

A request's way through it, one module a stop::

    client bytes -> reader.RequestReader        parses strictly, within limits
                 -> client.ClientConnection     answers requests in order, keeps time
                 -> exchange.Exchange           reads the call, asks the router, or answers itself
                 -> delivery.Delivery           owns attempts, retries and deadlines
                 -> pool.EndpointPool           lends a connection to the chosen endpoint
                 -> upstream.UpstreamConnection sends it, parses the response
                 -> outbox.Outbox               lets the writes of one turn leave together
    response     -> relay.Relay                 meters it, frames it, writes it to the client
                 -> exchange.Exchange           writes the record, turns to the next request

Parser callbacks only move data; decisions live in exchange and delivery. No task runs per
request or per chunk: a task exists only while a new connection to an endpoint is opened.
"""
