"""Chat templates, rendered as Hugging Face's transformers renders them, in a sandbox.

The template is the operator's, what it renders is the client's. The sandbox
(`jinja2.sandbox.ImmutableSandboxedEnvironment`) keeps both from reaching the process, and a
render ends when it takes too long or writes too much.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from time import monotonic
from typing import NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gateway.tokenizing.body import Chat, Fields, UntokenizableError
from gateway.tokenizing.contentformat import wants_parts
from gateway.tokenizing.conversation import conversation, tools_of

_MOST_CHARACTERS = 16 << 20
_MOST_SECONDS = 2.0
_MARK = "CONTINUE_FINAL_MESSAGE_TAG "  # transformers' own: a template may treat it by its letters


class _Generation(Extension):
    """``{% generation %}`` marks what an assistant said, for training; it renders its body."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """The body, in a scope of its own as transformers' call block gives it."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class ChatTemplate:
    """A compiled template. Raises ValueError when it is none.

    ``special_tokens`` are variables by their names (``bos_token``, ...).
    """

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _now
        try:
            self._template = environment.from_string(source)
            self.parts = wants_parts(environment.parse(source))
            """Whether it wants a message's content as a list of parts."""
        except (TemplateError, RecursionError) as error:
            raise ValueError(f"the chat template is wrong: {error}") from error
        self.source = source
        self._special_tokens = dict(special_tokens)
        self._clock = clock

    def render(self, chat: Chat) -> str:
        """The prompt of a chat as text. Raises `UntokenizableError`, and nothing else."""
        messages = conversation(chat.messages, parts=self.parts)
        final = _marked(messages[-1]) if chat.continued else None
        variables = {
            **self._special_tokens,
            **chat.arguments,
            "messages": messages,
            "tools": tools_of(chat.tools),
            "documents": chat.documents,
            "add_generation_prompt": chat.generation_prompt,
        }
        try:
            text = self._bounded(variables)
        except UntokenizableError:
            raise
        except Exception as error:  # whatever a template does with what clients send
            raise UntokenizableError("the template refuses it") from error
        return text if final is None else _open_ended(text, final)

    def _bounded(self, variables: Fields) -> str:
        written: list[str] = []
        room = _MOST_CHARACTERS
        end = self._clock() + _MOST_SECONDS
        for text in self._template.generate(variables):
            written.append(text)
            room -= len(text)
            if room < 0 or self._clock() > end:
                raise UntokenizableError("rendering takes too much")
        return "".join(written)


def _marked(message: Fields) -> str:
    """Mark the end of what is to be continued; returns it."""
    content = message["content"]
    if isinstance(content, list):
        if not content:
            raise UntokenizableError("nothing to continue")
        text: str = content[-1]["text"]
        content[-1]["text"] = text + _MARK
        return text
    assert isinstance(content, str)
    message["content"] = content + _MARK
    return content


def _open_ended(text: str, final: str) -> str:
    """The prompt up to the mark; a template that trims content trims what stands before it."""
    at = text.rfind(_MARK.strip())
    if at < 0 or final.strip() not in text:
        raise UntokenizableError("nothing to continue")
    kept = text[:at]
    return kept if text.startswith(_MARK, at) else kept.rstrip()


def _to_json(
    value: object,
    ensure_ascii: bool = False,  # templates pass these by position, too
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)  # local time, as engines take it
