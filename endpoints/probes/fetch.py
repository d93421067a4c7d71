"""One bounded GET: in time, in size, and with every way to fail named."""

import errno
from dataclasses import dataclass

import aiohttp

from endpoints.probes.health import Outcome


@dataclass(frozen=True, slots=True)
class Page:
    """An HTTP answer, whole."""

    path: str
    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    @property
    def absent(self) -> bool:
        """Whether the server has no such page."""
        return self.status in {404, 405, 501}

    @property
    def problem(self) -> str:
        """What is wrong with a page that is not ok, with the start of what it says."""
        said = " ".join(self.body[:400].decode("utf-8", "replace").split())
        printable = "".join(char for char in said if char.isprintable())[:160]
        return f"GET {self.path} answered {self.status}" + (f": {printable}" if printable else "")


class FetchError(Exception):
    """No usable answer; ``outcome`` tells of what kind."""

    def __init__(self, outcome: Outcome, problem: str) -> None:
        super().__init__(problem)
        self.outcome = outcome


class Fetcher:
    """GETs pages of one server.

    ``timeout`` (seconds) covers a whole request; a body of more than ``max_bytes`` is refused.
    """

    def __init__(
        self, session: aiohttp.ClientSession, base_url: str, *, timeout: float, max_bytes: int
    ) -> None:
        self._session = session
        self._base_url = base_url
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self._max_bytes = max_bytes

    async def get(self, path: str) -> Page:
        """The page at ``path``; `FetchError` when there is no answer, or too long a one."""
        try:
            async with self._session.get(
                self._base_url + path,
                timeout=self._timeout,
                allow_redirects=False,
                headers={"Accept-Encoding": "identity"},  # spares the engine the compression
            ) as response:
                return Page(path, response.status, await self._body(path, response))
        except aiohttp.ClientConnectorError as error:
            refused = error.errno == errno.ECONNREFUSED
            outcome = Outcome.REFUSED if refused else Outcome.SILENT
            problem = "connection refused" if refused else f"can't connect: {error.os_error}"
            raise FetchError(outcome, problem) from error
        except TimeoutError as error:
            problem = f"GET {path}: no answer within {self._timeout.total:g} s"
            raise FetchError(Outcome.SILENT, problem) from error
        except (aiohttp.ClientError, OSError) as error:
            problem = f"GET {path}: {error or type(error).__name__}"
            raise FetchError(Outcome.UNWELL, problem) from error

    async def _body(self, path: str, response: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > self._max_bytes:
                problem = f"GET {path}: the answer is longer than {self._max_bytes} bytes"
                raise FetchError(Outcome.UNWELL, problem)
        return bytes(body)
