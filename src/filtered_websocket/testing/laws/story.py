"""What clients do, step by step: what is drawn at random, played, and told when it went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .stage import Stage

__all__ = ["Ask", "Connect", "Cuts", "Knock", "Leave", "Put", "Send", "SendRaw", "Story", "Wait"]

LONGEST_SHOWN = 72  # characters of a message in a story


@dataclass(frozen=True)
class Ask:
    """The request of a client that wants to connect."""

    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        path = "" if self.path == "/" else f" to {self.path}"
        headers = ", ".join(f"{name}: {value}" for name, value in self.headers)
        return path + (f" with {headers}" if headers else "")


@dataclass(frozen=True)
class Cuts:
    """How what clients send is cut: sizes in bytes, None for one piece.

    What a client sends one after the other leaves as one stream of chunks.
    """

    fragment: int | None
    chunk: int | None


@dataclass(frozen=True)
class Connect:
    who: str

    def play(self, stage: Stage) -> None:
        stage.client(self.who)


@dataclass(frozen=True)
class Send:
    who: str
    message: str | bytes

    def play(self, stage: Stage) -> None:
        stage.send(self.who, self.message)


@dataclass(frozen=True)
class SendRaw:
    """Send what is no frame, or not a whole one."""

    who: str
    data: bytes

    def play(self, stage: Stage) -> None:
        stage.send_raw(self.who, self.data)


@dataclass(frozen=True)
class Knock:
    """Send bytes without a handshake."""

    data: bytes

    def play(self, stage: Stage) -> None:
        stage.knock(self.data)


@dataclass(frozen=True)
class Leave:
    who: str
    is_abrupt: bool

    def play(self, stage: Stage) -> None:
        stage.leave(self.who, is_abrupt=self.is_abrupt)


@dataclass(frozen=True)
class Put:
    item: Any

    def play(self, stage: Stage) -> None:
        stage.put(self.item)


@dataclass(frozen=True)
class Wait:
    seconds: float

    def play(self, stage: Stage) -> None:
        stage.wait(self.seconds)


Step = Connect | Send | SendRaw | Knock | Leave | Put | Wait


@dataclass(frozen=True)
class Story:
    """What happens: clients who do something while they are not connected connect before."""

    steps: tuple[Step, ...]
    asks: tuple[tuple[str, Ask], ...] = ()

    def ask_of(self, who: str) -> Ask:
        return dict(self.asks).get(who, Ask())


def shown(value: object) -> str:
    """Return a value for a story: as Python shows it, or the beginning, the end and the size."""
    text = repr(value)
    if len(text) <= LONGEST_SHOWN:
        return text
    ends = f"{text[: LONGEST_SHOWN // 2]}…{text[-LONGEST_SHOWN // 4 :]}"
    if isinstance(value, str | bytes):
        unit = "characters" if isinstance(value, str) else "bytes"
        return f"{ends} ({len(value):,} {unit})"
    return ends
