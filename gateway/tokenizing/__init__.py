"""Prompts as token ids, as engines see them: what makes comparing with their caches exact.

Engines report their caches in token ids. A model may name where its ids come from: a tokenizer's
folder, or its engines themselves. `service` asks either one off the event loop and within a
deadline, after which a request is routed by the other views.

=================  ==============================================================================
`service`          asks, within a deadline; counts and says what went how
`local`            a tokenizer's folder -> the ids of a request body
`files`            what a folder holds, loaded as transformers loads it
`body`             what of a body decides its ids
`conversation`     messages and tools as engines hand them to a template
`template`         the template, rendered as transformers renders it
`contentformat`    whether a template wants a message's content as text or as parts
`pieces`           text -> ids, piece by piece, so that a growing conversation is not tokenized anew
`engine`           ids from an engine's ``POST /tokenize``
`pace`             how long the work on a prompt of some size takes
=================  ==============================================================================

Never a guess: whatever could make the ids others than the engine's (a picture, a template of the
client's own, truncation) is an `body.UntokenizableError`, whose message is one of a few phrases.
"""
