"""``/v1/responses``: a conversation as instructions and a list of items."""

import msgspec
from msgspec import Raw, Struct

from gateway.apis.call import Call
from gateway.apis.content import write_content
from gateway.apis.decoding import decode, missing, require_model
from gateway.apis.fields import CommonPrompt, internal_fields, output_limit
from gateway.apis.prompt import ABSENT, Prompt, Tag, chain_of

TOOL_OUTPUTS = frozenset(
    {"computer_call_output", "custom_tool_call_output", "function_call_output"}
)
"""Items that carry what a tool gave: text, or parts as in a message."""


class ResponsesBody(CommonPrompt, kw_only=True, gc=False):
    """A Responses request."""

    input: str | list[Raw] | None = None
    instructions: str | None = None
    tools: Raw = ABSENT
    tool_choice: Raw = ABSENT
    reasoning: Raw = ABSENT
    previous_response_id: str | None = None
    conversation: Raw = ABSENT
    prompt: Raw = ABSENT
    max_output_tokens: int | float | None = None


class Item(Struct, gc=False):
    """One item of the input: a message, or whatever its type says."""

    type: str | None = None
    role: str | None = None
    content: str | list[Raw] | None = None
    call_id: str | None = None
    output: Raw = ABSENT


_body = msgspec.json.Decoder(ResponsesBody)
_item = msgspec.json.Decoder(Item)
_output = msgspec.json.Decoder(str | list[Raw])


def read_response(body: bytes) -> Call:
    """Read a Responses request; raises `ApiError` (400) for one that no engine could serve."""
    response = decode(_body, body)
    model = require_model(response.model)
    # A stored prompt template may bring the input with it.
    if response.input is None and response.prompt is ABSENT:
        raise missing("input", "give a string or a list of items")
    chain, tokens = chain_of(response_prompt(response), model, response.cache_salt)
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
    if response.instructions is not None:
        prompt.text(Tag.MESSAGE, "system")
        prompt.text(Tag.TEXT, response.instructions)
    if isinstance(response.input, str):
        prompt.text(Tag.MESSAGE, "user")
        prompt.text(Tag.TEXT, response.input)
    elif response.input is not None:
        for index, raw in enumerate(response.input):
            _write_item(prompt, raw, f"input[{index}]")
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
    value = bytes(output)
    if value.startswith(b"{"):  # a screenshot
        prompt.media(output)
    elif value != b"null":
        write_content(prompt, decode(_output, output, where), where)
