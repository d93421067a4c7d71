"""``/v1/messages``: a conversation in Anthropic's terms, as content blocks."""

import msgspec
from msgspec import Raw, Struct

from gateway.apis.call import ApiError, Call
from gateway.apis.decoding import decode, require_model
from gateway.apis.fields import CommonPrompt, internal_fields, output_limit
from gateway.apis.prompt import ABSENT, Prompt, Tag, chain_of

BILLING_HEADER = "x-anthropic-billing-header"
"""How a system block begins that some clients send first and change with every request.

vLLM leaves such a block out of the prompt, so that it does not spoil the prefix cache."""


class Message(Struct, gc=False):
    """One message."""

    role: str
    content: str | list[Raw] | None = None


class MessagesBody(CommonPrompt, kw_only=True, gc=False):
    """A Messages request."""

    messages: list[Message]
    system: str | list[Raw] | None = None
    tools: Raw = ABSENT
    tool_choice: Raw = ABSENT
    thinking: Raw = ABSENT
    chat_template: str | None = None
    chat_template_kwargs: Raw = ABSENT
    max_tokens: int | float | None = None


class ToolChoice(Struct, gc=False):
    """Which tools the model may use."""

    type: str | None = None


class Block(Struct, gc=False):
    """One content block: what hashing needs of the types that engines render.

    Fields are named, and the rest is left out, because clients move ``cache_control`` from
    block to block as a conversation grows: it must not change the prompt.
    """

    type: str = "text"
    text: str | None = None
    source: Raw = ABSENT
    id: str | None = None
    name: str | None = None
    input: Raw = ABSENT
    tool_use_id: str | None = None
    content: Raw = ABSENT
    is_error: bool | None = None


class BlockType(Struct, gc=False):
    """The type alone, for blocks of which nothing else is known."""

    type: str = "text"


_KNOWN_BLOCKS = frozenset({"text", "image", "document", "tool_use", "tool_result"})

_body = msgspec.json.Decoder(MessagesBody)
_block = msgspec.json.Decoder(Block)
_block_type = msgspec.json.Decoder(BlockType)
_content = msgspec.json.Decoder(str | list[Raw] | None)
_tool_choice = msgspec.json.Decoder(ToolChoice | None)


def read_messages(body: bytes) -> Call:
    """Read a Messages request; raises `ApiError` (400) for one that no engine could serve."""
    request = decode(_body, body)
    model = require_model(request.model)
    chain, tokens = chain_of(messages_prompt(request), model, request.cache_salt)
    return Call(
        model=model,
        streamed=request.stream is True,
        chains=(chain,),
        prompt_tokens=tokens,
        max_output_tokens=output_limit(request.max_tokens),
        priority=int(request.priority or 0),
        internal_fields=internal_fields(request, body),
        cache_salt=request.cache_salt,
    )


def messages_prompt(request: MessagesBody) -> Prompt:
    """Write the conversation as the chat template renders it: tools, system, messages."""
    prompt = Prompt()
    prompt.text(Tag.TEMPLATE, request.chat_template)
    prompt.raw(Tag.TEMPLATE_ARGUMENTS, request.chat_template_kwargs)
    prompt.raw(Tag.TOOLS, request.tools)
    if request.tool_choice is not ABSENT:
        choice = decode(_tool_choice, request.tool_choice, "tool_choice")
        if choice is not None and choice.type == "none":
            prompt.mark(Tag.NO_TOOLS)
    _write_system(prompt, request.system)
    for index, message in enumerate(request.messages):
        prompt.text(Tag.MESSAGE, message.role)
        _write_content(prompt, message.content, f"messages[{index}].content", nested=False)
    # Templates that know thinking switch it where the answer begins.
    prompt.raw(Tag.THINKING, request.thinking)
    return prompt


def _write_system(prompt: Prompt, system: str | list[Raw] | None) -> None:
    if isinstance(system, list):
        blocks = [(raw, decode(_block, raw, f"system[{i}]")) for i, raw in enumerate(system)]
        kept = [raw for raw, block in blocks if not (block.text or "").startswith(BILLING_HEADER)]
        system = kept or None
    if system is not None:
        prompt.text(Tag.MESSAGE, "system")
        _write_content(prompt, system, "system", nested=False)


def _write_content(
    prompt: Prompt, content: str | list[Raw] | None, where: str, *, nested: bool
) -> None:
    """Add text or blocks; `nested` inside a tool's result, where no other result can be."""
    if content is None or isinstance(content, str):
        prompt.text(Tag.TEXT, content)
        return
    for index, raw in enumerate(content):
        _write_block(prompt, raw, f"{where}[{index}]", nested=nested)


def _write_block(prompt: Prompt, raw: Raw, where: str, *, nested: bool) -> None:
    try:
        block = decode(_block, raw, where)
    except ApiError:
        # A block that we don't know may use these fields as it likes.
        if decode(_block_type, raw, where).type in _KNOWN_BLOCKS:
            raise
        prompt.raw(Tag.OTHER, raw)
        return
    if block.type == "text" and block.text is not None:
        prompt.text(Tag.TEXT, block.text)
    elif block.type in {"image", "document"} and block.source is not ABSENT:
        prompt.media(block.source)
    elif block.type == "tool_use":
        prompt.text(Tag.TOOL_USE, block.id or "")
        prompt.text(Tag.NAME, block.name)
        prompt.raw(Tag.TOOL_CALLS, block.input)
    elif block.type == "tool_result" and not nested:
        prompt.text(Tag.TOOL_RESULT, block.tool_use_id or "")
        if block.is_error:
            prompt.mark(Tag.TOOL_FAILED)
        if block.content is not ABSENT:
            inside = f"{where}.content"
            result = decode(_content, block.content, inside)
            _write_content(prompt, result, inside, nested=True)
        prompt.mark(Tag.TOOL_RESULT_END)
    else:
        prompt.raw(Tag.OTHER, raw)
