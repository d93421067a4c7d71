"""``/v1/messages``: a conversation in Anthropic's terms, as content blocks."""

from typing import Final

import msgspec
from msgspec import Raw

from gateway.apis.bodies import ABSENT, Block, MessagesBody, ToolChoice, TypeOnly
from gateway.apis.call import ApiError, Call
from gateway.apis.content import text_or_list, written_text
from gateway.apis.decoding import decode, decode_body, require_model
from gateway.apis.fields import internal_fields, output_limit
from gateway.apis.prompt import Prompt, Tag, chain_of, salt

BILLING_HEADER: Final = b'"x-anthropic-billing-header'
"""How a system block begins that some clients send first and change with every request.

vLLM leaves such a block out of the prompt, so that it does not spoil the prefix cache."""


_KNOWN_BLOCKS: Final = frozenset({"text", "image", "document", "tool_use", "tool_result"})

_body: Final = msgspec.json.Decoder(MessagesBody)
_block: Final = msgspec.json.Decoder(Block)
_type_only: Final = msgspec.json.Decoder(TypeOnly)
_tool_choice: Final = msgspec.json.Decoder(ToolChoice | None)


def read_messages(body: bytes) -> Call:
    """Read a Messages request; raises `ApiError` (400) for one that no engine could serve."""
    request = decode_body(_body, body)
    model = require_model(request.model)
    chain, tokens = chain_of(messages_prompt(request), salt(model, request.cache_salt))
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


def _write_system(prompt: Prompt, system: Raw) -> None:
    given = text_or_list(system, "system")
    if isinstance(given, list):
        given = [raw for i, raw in enumerate(given) if not _is_billing(raw, f"system[{i}]")] or None
    if given is not None:
        prompt.text(Tag.MESSAGE, "system")
        _write_given(prompt, given, "system", nested=False)


def _is_billing(raw: Raw, where: str) -> bool:
    text = written_text(decode(_block, raw, where).text, f"{where}.text")
    return text is not None and bytes(text[: len(BILLING_HEADER)]) == BILLING_HEADER


def _write_content(prompt: Prompt, content: Raw, where: str, *, nested: bool) -> None:
    given = text_or_list(content, where)
    if given is not None:
        _write_given(prompt, given, where, nested=nested)


def _write_given(
    prompt: Prompt, given: memoryview | list[Raw], where: str, *, nested: bool
) -> None:
    """Add text or blocks; `nested` inside a tool's result, where no other result can be."""
    if not isinstance(given, list):
        prompt.written(Tag.TEXT, given)
        return
    for index, raw in enumerate(given):
        _write_block(prompt, raw, f"{where}[{index}]", nested=nested)


def _write_block(prompt: Prompt, raw: Raw, where: str, *, nested: bool) -> None:
    try:
        block = decode(_block, raw, where)
        text = written_text(block.text, f"{where}.text")
    except ApiError:
        # A block that we don't know may use these fields as it likes.
        if decode(_type_only, raw, where).type in _KNOWN_BLOCKS:
            raise
        prompt.raw(Tag.OTHER, raw)
        return
    if block.type == "text" and text is not None:
        prompt.written(Tag.TEXT, text)
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
        _write_content(prompt, block.content, f"{where}.content", nested=True)
        prompt.mark(Tag.TOOL_RESULT_END)
    else:
        prompt.raw(Tag.OTHER, raw)
