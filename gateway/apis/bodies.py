"""What is decoded of request bodies: the few fields that matter, typed; all others are skipped.

Text that goes into a prompt stays as the client wrote it (`Raw`): decoding it would cost more
than everything else that is done with a body. ``null`` means absent, and so does `ABSENT`.
These structs stand apart from what reads them, since the readers can be compiled
(docs/decisions/0006) and structs can't.
"""

from typing import Final

from msgspec import Raw, Struct

ABSENT: Final = Raw()
"""Default of raw fields."""


class Common(Struct, gc=False):
    """What every operation reads."""

    model: str = ""
    stream: bool | None = None
    priority: int | float | None = None
    kv_transfer_params: Raw = ABSENT
    ec_transfer_params: Raw = ABSENT
    bootstrap_host: Raw = ABSENT
    bootstrap_port: Raw = ABSENT
    bootstrap_room: Raw = ABSENT
    disaggregated_params: Raw = ABSENT


class CommonPrompt(Common, gc=False):
    """What every operation with a prompt reads besides."""

    cache_salt: str | None = None


class Message(Struct, gc=False):
    """A message of a conversation: whatever of it chat templates render."""

    role: str
    content: Raw = ABSENT
    name: str | None = None
    tool_call_id: str | None = None
    reasoning: Raw = ABSENT
    reasoning_content: Raw = ABSENT
    refusal: str | None = None
    tool_calls: Raw = ABSENT
    function_call: Raw = ABSENT


class ChatBody(CommonPrompt, kw_only=True, gc=False):
    """A chat request, with the extras of vLLM and SGLang that change the prompt."""

    messages: list[Message]
    max_completion_tokens: int | float | None = None
    max_tokens: int | float | None = None
    tools: Raw = ABSENT
    functions: Raw = ABSENT
    tool_choice: Raw = ABSENT
    documents: Raw = ABSENT
    reasoning_effort: Raw = ABSENT
    chat_template: str | None = None
    chat_template_kwargs: Raw = ABSENT
    mm_processor_kwargs: Raw = ABSENT
    truncate_prompt_tokens: Raw = ABSENT
    add_special_tokens: Raw = ABSENT
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None


class Part(Struct, gc=False):
    """A part of a message in the OpenAI families; one without a type holds text."""

    type: str = "text"
    text: Raw = ABSENT


class TypeOnly(Struct, gc=False):
    """The type alone, for parts and blocks of which nothing else is known."""

    type: str = "text"


class CompletionBody(CommonPrompt, kw_only=True, gc=False):
    """A completion request; ``prompt_embeds`` is vLLM's prompt as embeddings."""

    prompt: Raw = ABSENT
    prompt_embeds: Raw = ABSENT
    max_tokens: int | float | None = None


class ResponsesBody(CommonPrompt, kw_only=True, gc=False):
    """A Responses request."""

    input: Raw = ABSENT
    instructions: Raw = ABSENT
    tools: Raw = ABSENT
    tool_choice: Raw = ABSENT
    reasoning: Raw = ABSENT
    previous_response_id: str | None = None
    conversation: Raw = ABSENT
    prompt: Raw = ABSENT
    max_output_tokens: int | float | None = None


class Item(Struct, gc=False):
    """One item of a Responses request's input: a message, or whatever its type says."""

    type: str | None = None
    role: str | None = None
    content: Raw = ABSENT
    call_id: str | None = None
    output: Raw = ABSENT


class TurnMessage(Struct, gc=False):
    """A message of a Messages request."""

    role: str
    content: Raw = ABSENT


class MessagesBody(CommonPrompt, kw_only=True, gc=False):
    """A Messages request (Anthropic's API)."""

    messages: list[TurnMessage]
    system: Raw = ABSENT
    tools: Raw = ABSENT
    tool_choice: Raw = ABSENT
    thinking: Raw = ABSENT
    chat_template: str | None = None
    chat_template_kwargs: Raw = ABSENT
    max_tokens: int | float | None = None


class ToolChoice(Struct, gc=False):
    """Which tools the model may use (Anthropic)."""

    type: str | None = None


class Block(Struct, gc=False):
    """One content block of a Messages request: what hashing needs of the types engines render.

    Fields are named, and the rest is left out, because clients move ``cache_control`` from
    block to block as a conversation grows: it must not change the prompt.
    """

    type: str = "text"
    text: Raw = ABSENT
    source: Raw = ABSENT
    id: str | None = None
    name: str | None = None
    input: Raw = ABSENT
    tool_use_id: str | None = None
    content: Raw = ABSENT
    is_error: bool | None = None
