"""What the log says of refused handshakes: an attack must not fill it."""

from __future__ import annotations

import asyncio
import logging

__all__ = ["Refusals"]

logger = logging.getLogger(__name__)

PERIOD = 1.0  # seconds
MAX_REASONS = 100  # filters make up reasons of their own, perhaps one for each client


class Refusals:
    """Log each reason once in a period, and how often it came again."""

    def __init__(self) -> None:
        self._repeats: dict[tuple[int, str], int] = {}

    def log(self, peer: str, status: int, reason: str, advice: str = "") -> None:
        """Log that a client was refused, unless others just were for the same reason."""
        if not self._repeats:
            asyncio.get_running_loop().call_later(PERIOD, self._begin_period)
        key = (status, reason)
        if key in self._repeats:
            self._repeats[key] += 1
        elif len(self._repeats) < MAX_REASONS:
            self._repeats[key] = 0
            logger.info("refused %s: %d %s%s", peer, status, reason, advice and f"; {advice}")

    def _begin_period(self) -> None:
        repeats, self._repeats = self._repeats, {}
        for (status, reason), number in repeats.items():
            if number:
                logger.info("refused %d more: %d %s", number, status, reason)
