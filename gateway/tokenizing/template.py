"""Chat templates, rendered as Hugging Face's transformers render them, in a sandbox.

The template is the operator's, what it renders is the client's. The sandbox
(`jinja2.sandbox.ImmutableSandboxedEnvironment`) keeps both from reaching the process.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from gateway.tokenizing.body import TokenizableBody, UntokenizableError, plain


class ChatTemplate:
    """A compiled template. Raises ValueError when it is none."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _now
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ValueError(f"the chat template is wrong: {error}") from error
        self._special_tokens = dict(special_tokens)

    def render(self, request: TokenizableBody) -> str:
        """The prompt of a chat as text. Raises `UntokenizableError`."""
        if request.continue_final_message:
            raise UntokenizableError("an answer to be continued")
        assert request.messages is not None
        tools = None if request.tool_choice == "none" else request.tools
        try:
            return self._template.render(
                messages=plain(request.messages),
                tools=tools,
                documents=request.documents,
                add_generation_prompt=request.add_generation_prompt,
                **self._special_tokens,
                **(request.chat_template_kwargs or {}),
            )
        except UntokenizableError:
            raise
        except Exception as error:  # whatever a template does with what clients send
            raise UntokenizableError("the template refuses it") from error


def _to_json(value: object, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now(UTC).strftime(form)
