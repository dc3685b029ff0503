"""Filter chains: how a class becomes a behaviour of the server.

A direct child of `FilterBase` opens a chain. Every class that inherits from that child joins the
chain when its module is imported; `run` calls their `filter` methods in that order:

    class Greeting(FilterBase):
        pass

    class Hello(Greeting):
        @classmethod
        def filter(cls, web_socket_instance, data):
            print("hello", data)

    Greeting.run(web_socket_instance, "you")

What belongs here: the chains of the server and the loop that runs them. What does not: when a chain
runs (`server`), and what filters do (one file each).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from types import FrameType, FunctionType
from typing import TYPE_CHECKING, Any, ClassVar

from ..typing import DropMessage, FilterError, Message, RejectHandshake, Request

__all__ = [
    "DropMessage",
    "FilterBase",
    "FilterMeta",
    "Message",
    "RejectHandshake",
    "Request",
    "WebSocketConnectFilter",
    "WebSocketConsumerFilter",
    "WebSocketDataFilter",
    "WebSocketDisconnectFilter",
    "WebSocketHandshakeFilter",
    "WebSocketMessageFilter",
]

logger = logging.getLogger(__name__)


class FilterMeta(type):
    """Do nothing: chains of 0.4.1 name it as their metaclass; inheriting is enough now."""


class FilterBase:
    """Open a chain by inheriting from this class; join it by inheriting from the child."""

    _filters: ClassVar[list[type[FilterBase]]]
    _frozen: ClassVar[Chain | None]

    # What sets a chain apart, for the bases of chains to override.
    ended_by: ClassVar[tuple[type[Exception], ...]] = (DropMessage,)
    lets_through: ClassVar[tuple[type[Exception], ...]] = ()
    survives_errors: ClassVar[bool] = False
    may_be_async: ClassVar[bool] = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if FilterBase in cls.__bases__:
            cls._filters = []
            cls._frozen = None
            return
        for chain in cls.__mro__:
            if issubclass(chain, FilterBase) and FilterBase in chain.__bases__:
                chain._filters.append(cls)
                chain._frozen = None

    @classmethod
    def run(cls, web_socket_instance: Any, data: Any = None) -> Any:
        """Run the filters of this chain, in the order of their import.

        Returns what the last filter left of `data`, or None when a filter ended the chain. With an
        async filter in the chain it returns an awaitable of the same. A filter that fails is
        logged. Raises FilterError for one that cannot run at all.
        """
        return cls.chain().run(web_socket_instance, data)

    @classmethod
    def chain(cls) -> Chain:
        """Return the chain that this class is of, as it stands now.

        Raises FilterError for a filter that cannot run.
        """
        base = next((c for c in cls.__mro__ if FilterBase in c.__bases__), None)
        if base is None:
            raise FilterError("FilterBase is no chain: inherit from it to open one")
        assert issubclass(base, FilterBase)
        if base._frozen is None:
            base._frozen = Chain(base)
        return base._frozen

    if TYPE_CHECKING:
        # For pyright, only what overrides a variable may be a class method or a static one.
        filter: ClassVar[Callable[..., Any]]
    else:

        @classmethod
        def filter(cls, web_socket_instance: Any, data: Any, /) -> Any:
            """Handle one event: override this, with `def` or `async def`.

            Return None to leave `data` as it is (it may be changed in place); `bytes`, `bytearray`
            or `str` replace it for the filters after this one; `raise DropMessage` ends the chain.
            """

    @staticmethod
    def accept(result: Any, data: Any) -> Any:
        """Return what the next filter gets when a filter returned `result` for `data`."""
        if isinstance(result, bytes | bytearray | str):
            return result
        raise TypeError(f"returned {_kind(result)}; a filter returns None, bytes, bytearray or str")


class WebSocketDataFilter(FilterBase):
    """Run on every chunk of bytes read from a socket: handshake, frames and garbage alike.

    `data` is a bytearray; what a filter makes of it reaches the next data filter, never the wire.
    Loading one costs every read a copy. It cannot be async.
    """

    may_be_async = False


class WebSocketHandshakeFilter(FilterBase):
    """Run on the HTTP request that asks for a connection; `data` is the `Request`.

    `raise RejectHandshake(403, "reason")` refuses it. A filter may set `token`, `state`,
    `subprotocol` and `response_headers` of the connection, which is not open yet. When a filter
    fails, the client gets status 500: a check that crashes lets nobody in.
    """

    ended_by = ()
    lets_through = (RejectHandshake,)

    @staticmethod
    def accept(result: Any, data: Any) -> Any:
        raise TypeError(f"returned {_kind(result)}; a filter of this chain returns None")


class WebSocketConnectFilter(FilterBase):
    """Run once when a connection is open, before its first message; `data` is None."""

    accept = WebSocketHandshakeFilter.accept


class WebSocketMessageFilter(FilterBase):
    """Run on every message; `data` is a `Message`, one mutable bytearray for the whole chain."""

    @staticmethod
    def accept(result: Any, data: Message) -> Message:
        if isinstance(result, Message):
            return result
        if isinstance(result, str):
            return Message(result.encode())
        message = Message(FilterBase.accept(result, data))
        message.is_binary = data.is_binary
        return message


class WebSocketDisconnectFilter(FilterBase):
    """Run exactly once when a connection that was open is gone; `data` is None.

    Each filter cleans up after itself only, so one that fails does not keep the next from running.
    """

    accept = WebSocketHandshakeFilter.accept
    survives_errors = True


class WebSocketConsumerFilter(FilterBase):
    """Run on each item put on the server's `queue`; `web_socket_instance` is the server.

    An item may be any object, and so may the result that replaces it.
    """

    @staticmethod
    def accept(result: Any, data: Any) -> Any:
        if inspect.iscoroutine(result):
            raise TypeError(f"returned {_kind(result)}")
        return result


# Tells a task that is cancelled from a filter that passes on a cancellation of something else. The
# server sets it, since nothing here knows an event loop.
is_being_cancelled: Callable[[], bool] = lambda: True  # noqa: E731


def is_cancellation(error: BaseException) -> bool:
    """Tell whether an async filter has passed on the cancellation of its own task."""
    if isinstance(error, Exception | SystemExit | KeyboardInterrupt):
        return False  # Those two would go through the event loop, and end the server.
    return is_being_cancelled()


class Chain:
    """Hold the filters of one chain, resolved, so that a run looks nothing up.

    There are two loops, since a chain without async filters must not make a coroutine of each run.
    """

    __slots__ = (
        "accept",
        "ended_by",
        "filters",
        "is_async",
        "lets_through",
        "name",
        "run",
        "steps",
        "survives_errors",
    )

    def __init__(self, base: type[FilterBase]) -> None:
        self.filters = tuple(cls for cls in base._filters if _has_filter(cls))
        steps = [(_name(cls), _function(cls)) for cls in self.filters]
        self.name = base.__name__
        self.steps = tuple(steps)
        self.accept = base.accept
        self.ended_by = base.ended_by
        self.lets_through = base.lets_through
        self.survives_errors = base.survives_errors
        self.is_async = any(inspect.iscoroutinefunction(function) for _, function in steps)
        self.run: Callable[[Any, Any], Any] = self.run_async if self.is_async else self.run_sync
        if self.is_async and not base.may_be_async:
            name = next(name for name, f in steps if inspect.iscoroutinefunction(f))
            raise FilterError(f"filter {name}: a {base.__name__} cannot be async")

    def __bool__(self) -> bool:
        return bool(self.steps)

    def run_sync(self, web_socket_instance: Any, data: Any) -> Any:
        """Run the filters; return the data they leave, or None when one of them ended the chain."""
        for step in self.steps:
            try:
                result = step[1](web_socket_instance, data)
                if result is not None and result is not data:
                    data = self.accept(result, data)
            except self.ended_by:
                return None
            except self.lets_through:
                raise
            except BaseException as error:  # a cancellation too: nobody cancels this loop
                self.report(step[0], error, web_socket_instance)
                if not self.survives_errors:
                    return None
        return data

    async def run_async(self, web_socket_instance: Any, data: Any) -> Any:
        """Do as `run_sync`, waiting for each async filter before the next one runs."""
        for step in self.steps:
            try:
                result = step[1](web_socket_instance, data)
                if isinstance(result, Awaitable):
                    result = await result
                if result is not None and result is not data:
                    data = self.accept(result, data)
            except self.ended_by:
                return None
            except self.lets_through:
                raise
            except BaseException as error:
                if is_cancellation(error):
                    raise
                self.report(step[0], error, web_socket_instance)
                if not self.survives_errors:
                    return None
        return data

    def report(self, name: str, error: BaseException, web_socket_instance: Any) -> None:
        """Log what a filter did wrong, with the traceback from the author's file on."""
        traceback = error.__traceback__
        while traceback is not None and _is_ours(traceback.tb_frame):
            traceback = traceback.tb_next
        # No text is made of the error here: of a thousand in a second the log shows one.
        exc_info = (type(error), error, traceback)
        logger.error("filter %s failed", name, exc_info=exc_info, extra={"filter": name})


def _is_ours(frame: FrameType) -> bool:
    # The name by which pytest knows such frames too: what stands between a chain and its filters.
    return "__tracebackhide__" in frame.f_locals or (
        frame.f_globals.get("__name__") == __name__ or isinstance(frame.f_locals.get("self"), Chain)
    )


def _name(cls: type[FilterBase]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _has_filter(cls: type[FilterBase]) -> bool:
    """Tell a filter from a class that other filters merely share code through."""
    return getattr(cls.filter, "__func__", cls.filter) is not FilterBase.filter.__func__  # type: ignore[attr-defined]


def _function(cls: type[FilterBase]) -> Callable[[Any, Any], Any]:
    if not callable(cls.filter):
        raise FilterError(f"filter {_name(cls)}: `filter` is {_kind(cls.filter)}, not a method")
    static = inspect.getattr_static(cls, "filter")
    function = getattr(static, "__func__", static)
    if isinstance(function, FunctionType) and not _takes_two(cls.filter):
        is_plain = static is function and function.__code__.co_argcount > 2
        raise FilterError(
            f"filter {_name(cls)} ({function.__code__.co_filename}, "
            f"line {function.__code__.co_firstlineno}): "
            + (
                "put @classmethod or @staticmethod above `def filter`"
                if is_plain
                else "write `def filter(cls, web_socket_instance, data)`, below @classmethod"
            )
        )
    return cls.filter


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function, follow_wrapped=False).bind(None, None)
    except TypeError:
        return False
    return True


def _kind(value: Any) -> str:
    if inspect.iscoroutine(value):
        value.close()
        return "a coroutine (declare the filter `async def`, or await it)"
    return type(value).__name__


def text_of(error: BaseException) -> str:
    """Return the text of an error, also of one whose author got it wrong."""
    try:
        return str(error)
    except Exception:
        return "(it cannot be shown)"
