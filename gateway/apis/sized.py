"""Operations of which no KV cache is kept: embeddings, rerank, score, (de)tokenize, counting.

Their bodies matter by size alone, so nothing but the common fields is read; what else such a
body needs, the engine says.
"""

from typing import Final

import msgspec

from gateway.apis.bodies import Common
from gateway.apis.call import Call
from gateway.apis.decoding import decode_body, require_model
from gateway.apis.fields import internal_fields
from gateway.apis.prompt import BYTES_PER_TOKEN

_body: Final = msgspec.json.Decoder(Common)


def read_sized(body: bytes) -> Call:
    """Read such a request; raises `ApiError` (400) for invalid JSON or without a model."""
    common = decode_body(_body, body)
    return Call(
        model=require_model(common.model),
        streamed=common.stream is True,
        prompt_tokens=len(body) / BYTES_PER_TOKEN,
        priority=int(common.priority or 0),
        internal_fields=internal_fields(common, body),
    )
