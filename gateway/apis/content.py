"""Content of messages in the OpenAI families: a string, or a list of typed parts."""

from typing import Final

import msgspec
from msgspec import Raw

from gateway.apis.bodies import ABSENT, Part, TypeOnly
from gateway.apis.call import ApiError
from gateway.apis.decoding import decode
from gateway.apis.prompt import Prompt, Tag

TEXT_PARTS: Final = frozenset({"text", "input_text", "output_text"})
"""Parts whose ``text`` goes into the prompt as it is."""

MEDIA_PARTS: Final = frozenset(
    {
        "audio_embeds",
        "audio_url",
        "computer_screenshot",
        "file",
        "image",
        "image_embeds",
        "image_pil",
        "image_url",
        "input_audio",
        "input_file",
        "input_image",
        "input_video",
        "video",
        "video_url",
    }
)
"""Parts that stand for an image, a sound, a video or a file."""


_QUOTE: Final = ord('"')
_BRACKET: Final = ord("[")

_part: Final = msgspec.json.Decoder(Part)
_type_only: Final = msgspec.json.Decoder(TypeOnly)
_parts: Final = msgspec.json.Decoder(list[Raw])
_text: Final = msgspec.json.Decoder(str | None)
_text_or_list: Final = msgspec.json.Decoder(str | list[Raw] | None)


def written_text(raw: Raw, where: str) -> memoryview | None:
    """Text as the client wrote it, quotes and all; None for an absent one. `where`: its path.

    Raises:
        ApiError: 400 for what is neither a string nor null.

    """
    if raw is ABSENT:
        return None
    written = memoryview(raw)
    if written[0] == _QUOTE:
        return written
    decode(_text, raw, where)
    return None


def text_or_list(raw: Raw, where: str) -> memoryview | list[Raw] | None:
    """Text as the client wrote it, a list of what stands in it, or None for an absent one.

    Raises:
        ApiError: 400 for anything else; `where` is its path.

    """
    if raw is ABSENT:
        return None
    written = memoryview(raw)
    first = written[0]
    if first == _QUOTE:
        return written
    if first == _BRACKET:
        return decode(_parts, raw, where)
    decode(_text_or_list, raw, where)
    return None


def write_content(prompt: Prompt, content: Raw, where: str) -> None:
    """Add a message's content; `where` is its path, for errors.

    A string and a list of one text part mean, and give, the same. Media are added by the
    digest of their part's bytes; parts of an unknown type as they are.

    Raises:
        ApiError: 400 for a part that is neither a string nor an object, or whose ``text``
            is not a string.

    """
    given = text_or_list(content, where)
    if isinstance(given, list):
        for index, raw in enumerate(given):
            _write_part(prompt, raw, f"{where}[{index}]")
    elif given is not None:
        prompt.written(Tag.TEXT, given)


def _write_part(prompt: Prompt, raw: Raw, where: str) -> None:
    written = memoryview(raw)
    if written[0] == _QUOTE:
        prompt.written(Tag.TEXT, written)
        return
    try:
        part = decode(_part, raw, where)
        text = written_text(part.text, f"{where}.text")
    except ApiError:
        # A part that we don't know may use `text` as it likes.
        if decode(_type_only, raw, where).type in TEXT_PARTS:
            raise
        prompt.raw(Tag.OTHER, raw)
        return
    if part.type in TEXT_PARTS and text is not None:
        prompt.written(Tag.TEXT, text)
    elif part.type in MEDIA_PARTS:
        prompt.media(raw)
    else:
        prompt.raw(Tag.OTHER, raw)
