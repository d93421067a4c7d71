"""Messages and tools as engines hand them to a chat template.

Between a request and its template vLLM rebuilds both: content becomes text or a list of text
parts, whichever the template wants; the arguments of tool calls become objects; fields that no
template knows are left out. Templates write much of that out as JSON, so its order counts, too.
Source: vLLM's ``chat_utils.parse_chat_messages`` and its pydantic models of tools and tool calls.
"""

import json

from gateway.tokenizing.body import Fields, UntokenizableError

_MOST_MESSAGES = 10_000  # more would hold up others, whatever the template does with each
_TEXT_PARTS = frozenset({"text", "refusal", "input_text", "output_text"})
_MAY_BE_EMPTY = frozenset({"text", "refusal"})


def conversation(messages: list[Fields], *, parts: bool) -> list[Fields]:
    """The messages for a template that wants content as ``parts``, or as text.

    Raises `UntokenizableError` for what engines refuse, and for all that is not text: what a
    picture becomes only the engine knows.
    """
    if len(messages) > _MOST_MESSAGES:
        raise UntokenizableError("too many messages")
    return [_message(message, parts=parts) for message in messages]


def tools_of(tools: list[object] | None) -> list[Fields] | None:
    """The definitions of tools with their fields in the engine's order, and its defaults."""
    return None if tools is None else [_tool(tool) for tool in tools]


def _message(message: Fields, *, parts: bool) -> Fields:
    role = message.get("role")
    if not isinstance(role, str):
        raise UntokenizableError("a message without a role")
    texts = _texts(message.get("content"))
    made: Fields = {"role": role}
    if parts and role != "tool":  # templates expect the results of tools as text
        made["content"] = [{"type": "text", "text": text} for text in texts]
    else:
        made["content"] = "\n".join(texts)
    if role == "assistant":
        calls = message.get("tool_calls")
        if calls:
            made["tool_calls"] = _tool_calls(calls)
        reasoning = message.get("reasoning")
        if reasoning is None:
            reasoning = message.get("reasoning_content")
        if reasoning is not None:
            made["reasoning"] = made["reasoning_content"] = _string(reasoning)
    elif role == "tool" and message.get("tool_call_id") is not None:
        made["tool_call_id"] = _string(message["tool_call_id"])
    elif role == "developer" and message.get("tools") is not None:
        raise UntokenizableError("tools in a message")
    for name in ("name", "task"):
        if isinstance(value := message.get(name), str):
            made[name] = value
    return made


def _texts(content: object) -> list[str]:
    if content is None:
        return []
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        raise UntokenizableError("fields of unexpected types")
    return [text for part in content if (text := _part(part)) is not None]


def _part(part: object) -> str | None:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str) or part.get("uuid") is not None:
        raise UntokenizableError("a part that is no text")
    if kind not in _TEXT_PARTS:
        raise UntokenizableError("a part that is no text")
    text = part.get("text" if kind != "refusal" else "refusal")
    if text is None and kind in _MAY_BE_EMPTY:
        return None
    return _string(text)


def _tool_calls(calls: object) -> list[Fields]:
    if not isinstance(calls, list):
        raise UntokenizableError("fields of unexpected types")
    return [_tool_call(call) for call in calls]


def _tool_call(call: object) -> Fields:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict):
        raise UntokenizableError("a tool call that is no function's")
    if call.get("type") != "function":
        raise UntokenizableError("a tool call that is no function's")
    return {
        "id": _string(call.get("id")),
        "function": {
            "arguments": _call_arguments(_string(function.get("arguments"))),
            "name": _string(function.get("name")),
        },
        "type": "function",
    }


def _call_arguments(text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {}  # as the engine takes them
    except RecursionError as error:
        raise UntokenizableError("nested too deeply") from error


def _tool(tool: object) -> Fields:
    function = tool.get("function") if isinstance(tool, dict) else None
    if not isinstance(tool, dict) or not isinstance(function, dict):
        raise UntokenizableError("a tool that is no function")
    if tool.get("type", "function") != "function":
        raise UntokenizableError("a tool that is no function")
    deferred = tool.get("defer_loading")
    made: Fields = {
        "name": _string(function.get("name")),
        "description": function.get("description"),
        "parameters": function.get("parameters"),
    }
    if function.get("strict") is not None:
        made["strict"] = function["strict"]
    loading = function.get("defer_loading")
    if loading is None:
        loading = deferred
    if loading is not None:
        made["defer_loading"] = loading
    whole: Fields = {"type": "function", "function": made}
    if deferred is not None:
        whole["defer_loading"] = deferred
    return whole


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise UntokenizableError("fields of unexpected types")
    return value
