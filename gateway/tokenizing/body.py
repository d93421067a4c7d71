"""What of a request body decides its token ids.

Fields and defaults are those of vLLM's chat and completion requests. What reaches a template
(tools, template arguments) is decoded by the standard library, as engines do: numbers are then
written as they write them.
"""

import json
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec
from msgspec import Raw, Struct

Fields: TypeAlias = dict[str, object]
"""A JSON object."""

_ABSENT: Final = Raw()
# Arguments that would change more than the template's variables, or that engines refuse.
_NOT_ARGUMENTS = frozenset(
    {
        *("messages", "conversation", "tools", "documents", "chat_template", "tokenize"),
        *("add_generation_prompt", "continue_final_message", "tokenizer_kwargs", "padding"),
        *("truncation", "max_length", "return_tensors", "return_dict"),
        *("return_assistant_tokens_mask", "sanitize_control_tokens"),
    }
)


class UntokenizableError(ValueError):
    """A prompt whose ids can't be told here; the message says why, in one of a few phrases."""


@dataclass(frozen=True, slots=True)
class Text:
    """A completion's prompt."""

    text: str
    special_tokens: bool = True


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation, and what its template is given besides."""

    messages: list[Fields]
    tools: list[object] | None
    documents: list[dict[str, str]] | None
    arguments: Fields
    generation_prompt: bool = True
    continued: bool = False
    special_tokens: bool = False


class _Body(Struct, gc=False):
    messages: list[Fields] | None = None
    prompt: str | list[object] | None = None
    prompt_embeds: Raw = _ABSENT
    suffix: str | None = None
    truncate_prompt_tokens: Raw = _ABSENT
    tools: Raw = _ABSENT
    tool_choice: Raw = _ABSENT
    documents: list[dict[str, str]] | None = None
    reasoning_effort: str | None = None
    chat_template: str | None = None
    chat_template_kwargs: Raw = _ABSENT
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool | None = None


_decoder = msgspec.json.Decoder(_Body)


def read(body: bytes) -> Text | Chat:
    """Read any body. Raises `UntokenizableError`, and nothing else."""
    try:
        request = _decoder.decode(body)
        if _given(request.truncate_prompt_tokens):
            raise UntokenizableError("a prompt to be truncated")
        if (request.messages is None) is (request.prompt is None):
            raise UntokenizableError("neither a chat nor a completion")
        return _text(request) if request.messages is None else _chat(request, request.messages)
    except (msgspec.DecodeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UntokenizableError("fields of unexpected types") from error
    except RecursionError as error:
        raise UntokenizableError("nested too deeply") from error


def _text(request: _Body) -> Text:
    prompt: object = request.prompt
    if isinstance(prompt, list):
        prompt = prompt[0] if len(prompt) == 1 else None
    if not isinstance(prompt, str) or _given(request.prompt_embeds) or request.suffix is not None:
        raise UntokenizableError("a prompt that is not one text")
    return Text(prompt, special_tokens=request.add_special_tokens is not False)


def _chat(request: _Body, messages: list[Fields]) -> Chat:
    if not messages:
        raise UntokenizableError("a chat without messages")
    if request.chat_template is not None:
        raise UntokenizableError("a template of the client's own")
    if request.continue_final_message and request.add_generation_prompt:
        raise UntokenizableError("both to continue the final message and to begin another")
    tools = _value(request.tools)
    if tools is not None:
        if not isinstance(tools, list) or not tools:
            raise UntokenizableError("fields of unexpected types")
        if _value(request.tool_choice) == "none":
            # vLLM leaves the tools in, unless started otherwise; SGLang leaves them out.
            raise UntokenizableError("tools that may not be used")
    return Chat(
        messages=messages,
        tools=tools,
        documents=request.documents,
        arguments=_arguments(request),
        generation_prompt=request.add_generation_prompt,
        continued=request.continue_final_message,
        special_tokens=request.add_special_tokens is True,
    )


def _arguments(request: _Body) -> Fields:
    """The template's other variables; an effort at reasoning switches thinking on or off."""
    arguments = _value(request.chat_template_kwargs)
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise UntokenizableError("fields of unexpected types")
    if not _NOT_ARGUMENTS.isdisjoint(arguments):
        raise UntokenizableError("template arguments that are no variables")
    if request.reasoning_effort is not None:
        arguments.setdefault("enable_thinking", request.reasoning_effort != "none")
        arguments["reasoning_effort"] = request.reasoning_effort
    return arguments


def _given(raw: Raw) -> bool:
    return raw is not _ABSENT and bytes(raw) != b"null"


def _value(raw: Raw) -> object:
    return json.loads(bytes(raw)) if _given(raw) else None
