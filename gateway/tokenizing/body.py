"""What of a request body decides its token ids."""

import msgspec
from msgspec import Struct


class TokenizableBody(Struct, gc=False):
    """A chat or a completion; values stay as JSON has them, for a template to render."""

    messages: list[dict[str, object]] | None = None
    prompt: str | None = None
    tools: list[object] | None = None
    documents: list[object] | None = None
    tool_choice: object = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, object] | None = None


_decoder = msgspec.json.Decoder(TokenizableBody)


class UntokenizableError(ValueError):
    """A prompt whose ids can't be told here; the message says why, in one short phrase."""


def read(body: bytes) -> TokenizableBody:
    """Read a body that was read as a call already. Raises `UntokenizableError`."""
    try:
        request = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UntokenizableError("neither messages nor one text") from error
    if (request.messages is None) is (request.prompt is None):
        raise UntokenizableError("neither messages nor one text")
    if request.chat_template is not None:
        raise UntokenizableError("a template of the client's own")
    return request


def plain(messages: list[dict[str, object]]) -> list[dict[str, object]]:
    """Messages with lists of text parts joined, as engines do for templates that expect text.

    Raises `UntokenizableError` for parts of any other kind: what a picture becomes, only the
    engine knows.
    """
    return [
        {**message, "content": _joined(content)}
        if isinstance(content := message.get("content"), list)
        else message
        for message in messages
    ]


def _joined(parts: list[object]) -> str:
    texts = []
    for part in parts:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part
        if not isinstance(text, str):
            raise UntokenizableError("a part that is no text")
        texts.append(text)
    return "\n".join(texts)
