"""From a request's prompts to sequences in the engine, and back to text."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from bench.fleet.engine.driver import Driver
from bench.fleet.engine.sequence import Finish
from bench.fleet.engine.sequence import Sequence as TokenSequence
from bench.fleet.engine.tokens import StreamDecoder, to_bytes


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of a request; a prompt counts once, however many answers it gets."""

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Delta:
    """One token of one answer; ``finish`` is set with the last one."""

    index: int
    text: str
    token: int
    finish: Finish | None


class Generation:
    """All answers to one request, in flight; leaving the context aborts those that still run.

    Sequences are in the order of the choices: ``per_prompt`` answers to the first prompt, then
    those to the second.
    """

    def __init__(
        self, driver: Driver, sequences: Sequence[TokenSequence], per_prompt: int = 1
    ) -> None:
        self.sequences = sequences
        self._driver = driver
        self._per_prompt = per_prompt
        self.abandoned: Callable[[], None] | None = None
        """Called when the context is left by an exception: nobody waits for the answers."""
        self._texts = [_Text(index, sequence) for index, sequence in enumerate(sequences)]
        self._news = asyncio.Event()
        self._done = asyncio.Event()
        for sequence in sequences:
            sequence.notify = self._notified
            driver.submit(sequence)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for sequence in self.sequences:
            self._driver.abort(sequence)
        if kind is not None and self.abandoned is not None:
            self.abandoned()

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        firsts = self.sequences[:: self._per_prompt]
        return Usage(
            prompt_tokens=sum(len(sequence.prompt) for sequence in firsts),
            cached_tokens=sum(
                sequence.cached_tokens
                if sequence.reported_cached is None
                else sequence.reported_cached
                for sequence in firsts
            ),
            completion_tokens=sum(sequence.generated for sequence in self.sequences),
        )

    async def finished(self) -> None:
        """Wait until every answer is whole."""
        await self._done.wait()

    async def more(self) -> list[Delta]:
        """The next tokens: at least one, several when the reader was slower, none at the end."""
        deltas: list[Delta] = []
        while not deltas and self._texts:
            await self._news.wait()
            self._news.clear()
            for text in self._texts:
                deltas += text.upto_now()
            self._texts = [text for text in self._texts if not text.whole]
        return deltas

    def _notified(self) -> None:
        self._news.set()
        if all(sequence.finish is not None for sequence in self.sequences):
            self._done.set()


class _Text:
    """One answer's text, token by token."""

    def __init__(self, index: int, sequence: TokenSequence) -> None:
        self._index = index
        self._sequence = sequence
        self._seen = 0
        self._decoder = StreamDecoder(sequence.output.visible_bytes)

    @property
    def whole(self) -> bool:
        """Whether nothing more will come."""
        return self._sequence.finish is not None

    def upto_now(self) -> list[Delta]:
        """The tokens that were not seen yet."""
        sequence = self._sequence
        deltas = []
        while self._seen < sequence.generated:
            token = sequence.output.token(self._seen)
            self._seen += 1
            last = self._seen == sequence.output.length
            text = self._decoder.decode(token, last=last)
            deltas.append(Delta(self._index, text, token, sequence.finish if last else None))
        return deltas


def ended(sequence: TokenSequence) -> Finish | None:
    """How an answer ended, as it is told."""
    return "abort" if sequence.told_aborted else sequence.finish


def answer_text(sequence: TokenSequence) -> str:
    """The whole text of a finished answer."""
    output = sequence.output
    data = to_bytes(output.token(index) for index in range(sequence.generated))
    return data[: output.visible_bytes].decode(errors="replace")


def answer_tokens(sequence: TokenSequence) -> list[int]:
    """The tokens of a finished answer."""
    return [sequence.output.token(index) for index in range(sequence.generated)]
