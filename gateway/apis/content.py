"""Content of messages in the OpenAI families: a string, or a list of typed parts."""

import msgspec
from msgspec import Raw, Struct

from gateway.apis.call import ApiError
from gateway.apis.decoding import decode
from gateway.apis.prompt import Prompt, Tag

TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
"""Parts whose ``text`` goes into the prompt as it is."""

MEDIA_PARTS = frozenset(
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


class Part(Struct, gc=False):
    """What hashing needs to know of a part; a part without a type holds text."""

    type: str = "text"
    text: str | None = None


class PartType(Struct, gc=False):
    """The type alone, for parts of which nothing else is known."""

    type: str = "text"


_QUOTE = ord('"')

_part = msgspec.json.Decoder(Part)
_part_type = msgspec.json.Decoder(PartType)
_string = msgspec.json.Decoder(str)


def write_content(prompt: Prompt, content: str | list[Raw] | None, where: str) -> None:
    """Add a message's content; `where` is its path, for errors.

    A string and a list of one text part mean, and give, the same. Media are added by the
    digest of their part's bytes; parts of an unknown type as they are.

    Raises:
        ApiError: 400 for a part that is neither a string nor an object, or whose ``text``
            is not a string.

    """
    if isinstance(content, list):
        write_parts(prompt, content, where)
    else:
        prompt.text(Tag.TEXT, content)


def write_parts(prompt: Prompt, parts: list[Raw], where: str) -> None:
    """Add content given as parts: see `write_content`."""
    for index, raw in enumerate(parts):
        _write_part(prompt, raw, f"{where}[{index}]")


def _write_part(prompt: Prompt, raw: Raw, where: str) -> None:
    if memoryview(raw)[0] == _QUOTE:
        prompt.text(Tag.TEXT, decode(_string, raw, where))
        return
    try:
        part = decode(_part, raw, where)
    except ApiError:
        # A part that we don't know may use `text` as it likes.
        if decode(_part_type, raw, where).type in TEXT_PARTS:
            raise
        prompt.raw(Tag.OTHER, raw)
        return
    if part.type in TEXT_PARTS and part.text is not None:
        prompt.text(Tag.TEXT, part.text)
    elif part.type in MEDIA_PARTS:
        prompt.media(raw)
    else:
        prompt.raw(Tag.OTHER, raw)
