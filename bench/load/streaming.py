"""One streamed chat: asked, read as it comes, and told to locust.

Three kinds of entries come of it, each with locust's own percentiles: ``TTFT`` (to the first text),
``ITL`` (between two pieces of text, one entry each) and ``CHAT`` (the whole), which alone can fail.
"""

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import requests
from locust.env import Environment

from bench.load.talk import Message

_TIMEOUT_SECONDS = (10, 600)
_CONNECTIONS = 1_000  # that one user keeps open: a trace is sent by one


class AnswerError(Exception):
    """An answer that is none; the message says why."""


class Talker:
    """Talks to one OpenAI API; ``OPENAI_API_KEY`` is used where it is set."""

    def __init__(self, environment: Environment, host: str, model: str) -> None:
        self._environment = environment
        self._url = f"{host.rstrip('/')}/v1/chat/completions"
        self._model = model
        self._http = requests.Session()
        self._http.mount("http", requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS))
        key = os.environ.get("OPENAI_API_KEY")
        if key:
            self._http.headers["authorization"] = f"Bearer {key}"

    def say(self, name: str, messages: list[Message], answer_tokens: int) -> str | None:
        """The answer's text; None when there was none, which locust counts as a failure."""
        body = {
            "model": self._model,
            "messages": messages,
            "max_tokens": answer_tokens,
            "stream": True,
        }
        begun = time.perf_counter()
        pieces: list[str] = []
        failure: Exception | None = None
        try:
            last = begun
            for piece in self._pieces(body):
                now = time.perf_counter()
                self._fire("ITL" if pieces else "TTFT", name, now - last)
                last = now
                pieces.append(piece)
            if not pieces:
                raise AnswerError("a stream without text")
        except (requests.RequestException, AnswerError, ValueError) as error:
            failure = error
        text = "".join(pieces)
        self._fire("CHAT", name, time.perf_counter() - begun, len(text), failure)
        return None if failure else text

    def _pieces(self, body: dict[str, Any]) -> Iterator[str]:
        """The pieces of text, as they come."""
        with self._http.post(
            self._url, json=body, stream=True, timeout=_TIMEOUT_SECONDS
        ) as response:
            if response.status_code != 200:
                raise AnswerError(f"status {response.status_code}: {response.text[:200]}")
            for event in _events(response):
                if event == b"[DONE]":
                    return
                part = json.loads(event)
                if "error" in part:
                    raise AnswerError(f"an error in the stream: {part['error']}")
                for choice in part["choices"]:
                    if piece := choice["delta"].get("content"):
                        yield piece
        raise AnswerError("a stream without its end")

    def _fire(
        self,
        kind: str,
        name: str,
        seconds: float,
        length: int = 0,
        failure: Exception | None = None,
    ) -> None:
        self._environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=seconds * 1000,
            response_length=length,
            exception=failure,
            context={},
        )


def _events(response: requests.Response) -> Iterator[bytes]:
    """The data of server-sent events, each as soon as it is whole."""
    rest = b""
    for piece in response.iter_content(chunk_size=None):
        *events, rest = (rest + piece).split(b"\n\n")
        for event in events:
            for line in event.splitlines():
                if line.startswith(b"data: "):
                    yield line.removeprefix(b"data: ")
