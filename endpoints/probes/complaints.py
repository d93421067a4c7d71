"""Saying a lasting problem once, not at every visit."""

import logging


class Complaints:
    """The open problems of one endpoint, by topic (``metrics``, ``models``, ...)."""

    def __init__(self, logger: logging.Logger, endpoint: str) -> None:
        self._logger = logger
        self._endpoint = endpoint
        self._open: dict[str, str] = {}

    def report(self, topic: str, problem: str) -> None:
        """Log ``problem`` as a warning unless it is what was last said about ``topic``."""
        if self._open.get(topic) != problem:
            self._open[topic] = problem
            self._logger.warning(
                "%s: %s: %s", self._endpoint, topic, problem, extra=self._extra(topic, problem)
            )

    def settled(self, topic: str) -> None:
        """Log that ``topic`` is well again, when it was not."""
        if self._open.pop(topic, None) is not None:
            self._logger.info(
                "%s: %s: well again", self._endpoint, topic, extra=self._extra(topic, "")
            )

    def _extra(self, topic: str, problem: str) -> dict[str, str]:
        return {"endpoint": self._endpoint, "topic": topic, "problem": problem}
