"""``/v1/responses``: a conversation as instructions and a list of items."""

from typing import Final

import msgspec
from msgspec import Raw

from gateway.apis.bodies import ABSENT, Item, ResponsesBody
from gateway.apis.call import Call
from gateway.apis.content import text_or_list, write_content, written_text
from gateway.apis.decoding import decode, decode_body, missing, require_model
from gateway.apis.fields import internal_fields, output_limit
from gateway.apis.prompt import Prompt, Tag, chain_of, salt

_BRACE: Final = ord("{")

TOOL_OUTPUTS: Final = frozenset(
    {"computer_call_output", "custom_tool_call_output", "function_call_output"}
)
"""Items that carry what a tool gave: text, or parts as in a message."""


_body: Final = msgspec.json.Decoder(ResponsesBody)
_item: Final = msgspec.json.Decoder(Item)


def read_response(body: bytes) -> Call:
    """Read a Responses request; raises `ApiError` (400) for one that no engine could serve."""
    response = decode_body(_body, body)
    model = require_model(response.model)
    chain, tokens = chain_of(response_prompt(response), salt(model, response.cache_salt))
    return Call(
        model=model,
        streamed=response.stream is True,
        chains=(chain,),
        prompt_tokens=tokens,
        max_output_tokens=output_limit(response.max_output_tokens),
        priority=int(response.priority or 0),
        internal_fields=internal_fields(response, body),
        cache_salt=response.cache_salt,
    )


def response_prompt(response: ResponsesBody) -> Prompt:
    """Write the conversation as the chat template renders it.

    What an earlier response, a conversation or a prompt that the engine stores holds, only the
    engine knows: its name stands for it.
    """
    prompt = Prompt()
    prompt.text(Tag.EARLIER_RESPONSE, response.previous_response_id)
    prompt.raw(Tag.CONVERSATION, response.conversation)
    prompt.raw(Tag.STORED_PROMPT, response.prompt)
    prompt.raw(Tag.REASONING_EFFORT, response.reasoning)
    prompt.raw(Tag.TOOLS, response.tools)
    if response.tool_choice is not ABSENT and bytes(response.tool_choice) == b'"none"':
        prompt.mark(Tag.NO_TOOLS)
    instructions = written_text(response.instructions, "instructions")
    if instructions is not None:
        prompt.text(Tag.MESSAGE, "system")
        prompt.written(Tag.TEXT, instructions)
    given = text_or_list(response.input, "input")
    if isinstance(given, list):
        for index, raw in enumerate(given):
            _write_item(prompt, raw, f"input[{index}]")
    elif given is not None:
        prompt.text(Tag.MESSAGE, "user")
        prompt.written(Tag.TEXT, given)
    elif response.prompt is ABSENT:  # a stored prompt template may bring the input with it
        raise missing("input", "give a string or a list of items")
    return prompt


def _write_item(prompt: Prompt, raw: Raw, where: str) -> None:
    """Add an item: messages and tool outputs by their meaning, all others as they are."""
    item = decode(_item, raw, where)
    if item.role is not None and item.type in {None, "message"}:
        prompt.text(Tag.MESSAGE, item.role)
        write_content(prompt, item.content, f"{where}.content")
    elif item.type in TOOL_OUTPUTS and item.output is not ABSENT:
        prompt.text(Tag.TOOL_RESULT, item.call_id or "")
        prompt.text(Tag.NAME, item.type)
        _write_output(prompt, item.output, f"{where}.output")
        prompt.mark(Tag.TOOL_RESULT_END)
    else:
        prompt.raw(Tag.ITEM, raw)


def _write_output(prompt: Prompt, output: Raw, where: str) -> None:
    if memoryview(output)[0] == _BRACE:  # a screenshot
        prompt.media(output)
    else:
        write_content(prompt, output, where)
