"""Prompts as token ids, as engines see them: what makes comparing with their caches exact.

Engines report their caches in token ids. A model may name where its ids come from: a tokenizer's
folder (`local`), or its engines themselves (`engine`). `service` asks either one off the event
loop and within a deadline, after which a request is routed by the other views.
"""
