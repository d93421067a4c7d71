"""``/v1/chat/completions``: a conversation as messages with roles."""

from typing import Final

import msgspec

from gateway.apis.bodies import ABSENT, ChatBody, Message
from gateway.apis.call import Call
from gateway.apis.content import write_content
from gateway.apis.decoding import decode_body, require_model
from gateway.apis.fields import internal_fields, output_limit
from gateway.apis.prompt import Prompt, Tag, chain_of, salt

_body: Final = msgspec.json.Decoder(ChatBody)


def read_chat(body: bytes) -> Call:
    """Read a chat request; raises `ApiError` (400) for one that no engine could serve."""
    chat = decode_body(_body, body)
    model = require_model(chat.model)
    chain, tokens = chain_of(chat_prompt(chat), salt(model, chat.cache_salt))
    return Call(
        model=model,
        streamed=chat.stream is True,
        chains=(chain,),
        prompt_tokens=tokens,
        max_output_tokens=output_limit(chat.max_completion_tokens, chat.max_tokens),
        priority=int(chat.priority or 0),
        internal_fields=internal_fields(chat, body),
        cache_salt=chat.cache_salt,
    )


def chat_prompt(chat: ChatBody) -> Prompt:
    """Write what the chat template renders, in the order in which templates render it."""
    prompt = Prompt()
    prompt.text(Tag.TEMPLATE, chat.chat_template)
    prompt.raw(Tag.TEMPLATE_ARGUMENTS, chat.chat_template_kwargs)
    prompt.raw(Tag.MEDIA_ARGUMENTS, chat.mm_processor_kwargs)
    prompt.raw(Tag.TRUNCATION, chat.truncate_prompt_tokens)
    prompt.raw(Tag.SPECIAL_TOKENS, chat.add_special_tokens)
    prompt.raw(Tag.REASONING_EFFORT, chat.reasoning_effort)
    prompt.raw(Tag.DOCUMENTS, chat.documents)
    prompt.raw(Tag.TOOLS, chat.tools)
    prompt.raw(Tag.FUNCTIONS, chat.functions)
    # Engines leave the tools out for "none"; every other choice only constrains the output.
    if chat.tool_choice is not ABSENT and bytes(chat.tool_choice) == b'"none"':
        prompt.mark(Tag.NO_TOOLS)
    for index, message in enumerate(chat.messages):
        _write_message(prompt, message, index)
    if chat.add_generation_prompt is False:
        prompt.mark(Tag.NO_GENERATION_PROMPT)
    if chat.continue_final_message:
        prompt.mark(Tag.CONTINUE)
    return prompt


def _write_message(prompt: Prompt, message: Message, index: int) -> None:
    # Guards where a call would add nothing: most messages have a role and a content only.
    prompt.text(Tag.MESSAGE, message.role)
    if message.name is not None:
        prompt.text(Tag.NAME, message.name)
    if message.tool_call_id is not None:
        prompt.text(Tag.TOOL_CALL_ID, message.tool_call_id)
    if message.reasoning is not ABSENT:
        prompt.raw(Tag.REASONING, message.reasoning)
    if message.reasoning_content is not ABSENT:
        prompt.raw(Tag.REASONING, message.reasoning_content)
    write_content(prompt, message.content, f"messages[{index}].content")
    if message.refusal is not None:
        prompt.text(Tag.REFUSAL, message.refusal)
    if message.tool_calls is not ABSENT:
        prompt.raw(Tag.TOOL_CALLS, message.tool_calls)
    if message.function_call is not ABSENT:
        prompt.raw(Tag.FUNCTION_CALL, message.function_call)
