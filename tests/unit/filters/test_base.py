"""Filter chains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import uuid4

import pytest

from filtered_websocket.filters.base import (
    Chain,
    DropMessage,
    FilterBase,
    FilterMeta,
    Message,
    RejectHandshake,
    Request,
    WebSocketConnectFilter,
    WebSocketConsumerFilter,
    WebSocketDataFilter,
    WebSocketDisconnectFilter,
    WebSocketHandshakeFilter,
    WebSocketMessageFilter,
)
from filtered_websocket.filters.metered import MeteredChain
from filtered_websocket.typing import FilterError

from ..conftest import add

pytestmark = pytest.mark.usefixtures("empty_chains")

ALL = [
    WebSocketDataFilter,
    WebSocketHandshakeFilter,
    WebSocketConnectFilter,
    WebSocketMessageFilter,
    WebSocketDisconnectFilter,
    WebSocketConsumerFilter,
]


class FakeConnection:
    def __init__(self) -> None:
        self.id = uuid4()


def returning(result: Any) -> Callable[[Any, Any], Any]:
    return lambda web_socket_instance, data: result


def raising(error: BaseException) -> Callable[[Any, Any], Any]:
    def body(web_socket_instance: Any, data: Any) -> None:
        raise error

    return body


def run(chain: type[FilterBase], data: Any = None) -> Any:
    """Run a chain as the server does, in an event loop when it is async."""
    verdict = chain.run(FakeConnection(), data)
    return asyncio.run(verdict) if chain.chain().is_async else verdict


def also_async(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test twice: with the chain as it is, and with an async filter in front."""
    return pytest.mark.parametrize("ahead", [[], ["async"]], ids=["sync", "async"])(test)


def prepare(ahead: list[str], chain: type[FilterBase] = WebSocketMessageFilter) -> None:
    async def pause(web_socket_instance: Any, data: Any) -> None:
        await asyncio.sleep(0)

    if ahead:
        add(chain, pause)


# Which filters run, in which order


@pytest.mark.parametrize("chain", ALL)
def test_filters_run_in_the_order_of_definition(chain: type[FilterBase]) -> None:
    """Each filter of a chain gets the connection and the data, one after the other."""
    calls: list[Any] = []
    for number in (1, 2, 3):
        add(chain, lambda *arguments, number=number: calls.append((number, *arguments)))
    connection, data = FakeConnection(), Message(b"x")
    chain.run(connection, data)
    assert calls == [(number, connection, data) for number in (1, 2, 3)]


def test_classmethod_and_staticmethod_filters() -> None:
    """Both spellings of a filter run; a classmethod gets its own class."""
    calls = []

    class WithClass(WebSocketMessageFilter):
        @classmethod
        def filter(cls, web_socket_instance: Any, msg: Message) -> None:
            calls.append(cls)

    class WithoutClass(WebSocketMessageFilter):
        @staticmethod
        def filter(web_socket_instance: Any, msg: Message) -> None:
            calls.append(WithoutClass)

    run(WebSocketMessageFilter, Message())
    assert calls == [WithClass, WithoutClass]


def test_custom_chains_do_not_disturb_each_other() -> None:
    """A direct child of FilterBase opens a chain, by inheritance or with the metaclass."""
    calls: list[str] = []

    class Inherited(FilterBase):
        pass

    class MetaMade(FilterBase, metaclass=FilterMeta):
        pass

    for number in (1, 2):
        for chain in (Inherited, MetaMade, WebSocketMessageFilter):
            add(chain, lambda _, data, it=f"{chain.__name__} {number}": calls.append(it))
    Inherited.run(FakeConnection(), None)
    MetaMade.run(FakeConnection())
    assert calls == ["Inherited 1", "Inherited 2", "MetaMade 1", "MetaMade 2"]


def test_a_class_with_two_chains_as_bases_runs_in_both() -> None:
    """One class may handle two events."""
    calls: list[Any] = []

    class Both(WebSocketConnectFilter, WebSocketDisconnectFilter):
        filter = classmethod(lambda cls, web_socket_instance, data: calls.append(cls))

    run(WebSocketConnectFilter)
    assert calls == [Both]
    run(WebSocketDisconnectFilter)
    assert calls == [Both, Both]


def test_a_class_without_a_filter_is_skipped() -> None:
    """A class that filters share code through is none itself; its children are."""

    class Shared(WebSocketMessageFilter):
        mark = b"!"

    class Marking(Shared):
        @classmethod
        def filter(cls, web_socket_instance: Any, msg: Message) -> bytes:
            return msg + cls.mark

    class Again(Marking):
        mark = b"?"

    assert [name.rpartition(".")[2] for name, _ in WebSocketMessageFilter.chain().steps] == [
        "Marking",
        "Again",
    ]
    assert run(WebSocketMessageFilter, Message(b"hi")) == b"hi!?"


def test_a_chain_knows_the_classes_of_its_steps() -> None:
    """Its filters stand in the order of the steps, without classes that share code only."""

    class Shared(WebSocketMessageFilter):
        pass

    class First(Shared):
        @staticmethod
        def filter(web_socket_instance: Any, msg: Message) -> None:
            pass

    class Second(First):
        pass

    chain = WebSocketMessageFilter.chain()
    assert chain.filters == (First, Second)
    assert [name.rpartition(".")[2] for name, _ in chain.steps] == ["First", "Second"]


def test_a_chain_grows_after_it_was_used() -> None:
    """A filter that is defined later runs from then on."""
    add(WebSocketMessageFilter, returning(b"first"))
    assert run(WebSocketMessageFilter, Message()) == b"first"
    add(WebSocketMessageFilter, returning(b"second"))
    assert run(WebSocketMessageFilter, Message()) == b"second"


def test_an_empty_chain_leaves_the_data() -> None:
    """Without filters a chain is false, and hands back what it gets."""
    msg = Message(b"x")
    assert not WebSocketMessageFilter.chain()
    assert run(WebSocketMessageFilter, msg) is msg


# What a filter returns


@also_async
def test_none_leaves_the_message_with_its_changes(ahead: list[str]) -> None:
    """One mutable message goes down the chain: what one filter pops, the next one misses."""
    prepare(ahead)
    add(WebSocketMessageFilter, lambda _, msg: msg.pop() and None)
    msg = Message(b"Test")
    assert run(WebSocketMessageFilter, msg) is msg
    assert msg == b"Tes"


@also_async
@pytest.mark.parametrize(
    ("result", "is_binary"),
    [
        (b"new", True),
        (bytearray(b"new"), True),
        ("new", False),
        (Message(b"new"), False),
    ],
    ids=["bytes", "bytearray", "str", "Message"],
)
def test_a_result_replaces_the_message(result: Any, is_binary: bool, ahead: list[str]) -> None:
    """Bytes keep the type of the message, `str` makes it text, a Message has its own type."""
    prepare(ahead)
    seen: list[Message] = []
    add(WebSocketMessageFilter, returning(result))
    add(WebSocketMessageFilter, lambda _, msg: seen.append(msg))
    msg = Message(b"old")
    msg.is_binary = True
    assert run(WebSocketMessageFilter, msg) is seen[0]
    assert (type(seen[0]), bytes(seen[0]), seen[0].is_binary) == (Message, b"new", is_binary)
    assert msg == b"old"


def test_returning_the_message_itself_is_as_good_as_none() -> None:
    """The same object goes on, with its type."""
    add(WebSocketMessageFilter, lambda _, msg: msg)
    msg = Message(b"x")
    msg.is_binary = True
    assert run(WebSocketMessageFilter, msg) is msg
    assert msg.is_binary


async def a_coroutine() -> None: ...


@also_async
@pytest.mark.parametrize(
    ("result", "kind"), [(5, "int"), (True, "bool"), ([b"x"], "list"), (memoryview(b"x"), "memor")]
)
def test_a_wrong_result_ends_the_chain(
    result: Any, kind: str, ahead: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What is no message never reaches the next filter; one log line says what was returned."""
    prepare(ahead)
    add(WebSocketMessageFilter, returning(result))
    add(WebSocketMessageFilter, raising(AssertionError("the next filter ran")))
    assert run(WebSocketMessageFilter, Message(b"x")) is None
    (record,) = caplog.records
    assert f"TypeError: returned {kind}" in caplog.text
    assert f"{__name__}.Added" in record.getMessage()


@pytest.mark.parametrize("chain", [c for c in ALL if c is not WebSocketConsumerFilter])
def test_a_forgotten_async_is_named(
    chain: type[FilterBase], caplog: pytest.LogCaptureFixture
) -> None:
    """A sync filter that returns a coroutine is told to be `async def`, without a warning."""
    add(chain, lambda *_: a_coroutine())
    assert run(chain, Message()) is None or chain is WebSocketDisconnectFilter
    assert "declare the filter `async def`" in caplog.text


@pytest.mark.parametrize(
    "chain", [WebSocketHandshakeFilter, WebSocketConnectFilter, WebSocketDisconnectFilter]
)
def test_chains_without_a_message_take_no_result(
    chain: type[FilterBase], caplog: pytest.LogCaptureFixture
) -> None:
    """There is nothing to replace: a result is a mistake, and is logged as one."""
    add(chain, returning(b"x"))
    assert run(chain) is None
    assert "TypeError: returned bytes; a filter of this chain returns None" in caplog.text


def test_a_consumer_filter_may_return_anything() -> None:
    """Items of the queue are any objects, and so is what replaces them."""
    add(WebSocketConsumerFilter, lambda _, item: [item])
    assert run(WebSocketConsumerFilter, {"a": 1}) == [{"a": 1}]


# What a filter raises


@also_async
@pytest.mark.parametrize(
    "chain", [WebSocketConnectFilter, WebSocketMessageFilter, WebSocketConsumerFilter]
)
def test_drop_message_ends_the_chain_in_silence(
    chain: type[FilterBase], ahead: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """No filter after it runs, and nothing is logged."""
    prepare(ahead, chain)
    add(chain, raising(DropMessage()))
    add(chain, raising(AssertionError("the next filter ran")))
    assert run(chain, Message(b"x")) is None
    assert caplog.records == []


@also_async
@pytest.mark.parametrize(
    "error", [ValueError("no good"), SystemExit("no good"), RejectHandshake(403, "no good")]
)
def test_an_exception_ends_the_chain_and_is_logged_once(
    error: BaseException, ahead: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The log names filter and error; its traceback begins in the author's file."""
    prepare(ahead)
    add(WebSocketMessageFilter, raising(error))
    add(WebSocketMessageFilter, raising(AssertionError("the next filter ran")))
    assert run(WebSocketMessageFilter, Message(b"x")) is None
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage() == f"filter {__name__}.Added failed"
    assert vars(record)["filter"] == f"{__name__}.Added"
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert record.exc_info[2] is not None
    assert record.exc_info[2].tb_frame.f_code.co_filename == __file__


def test_the_next_message_finds_the_chain_intact() -> None:
    """What failed for one message does not fail for the next."""
    add(WebSocketMessageFilter, lambda _, msg: msg.pop() and None)
    assert run(WebSocketMessageFilter, Message()) is None
    assert run(WebSocketMessageFilter, Message(b"ab")) == b"a"


def test_a_consumer_error_is_logged_without_a_connection(caplog: pytest.LogCaptureFixture) -> None:
    """The server has no id; the log names the filter and its error."""
    add(WebSocketConsumerFilter, raising(ValueError("no good")))
    WebSocketConsumerFilter.run(object(), "item")
    assert f"filter {__name__}.Added failed\n" in caplog.text
    assert "ValueError: no good" in caplog.text


@also_async
@pytest.mark.parametrize("error", [ValueError("no good"), SystemExit(1)])
def test_the_disconnect_chain_goes_on_after_an_error(
    error: BaseException, ahead: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """One filter that fails does not keep the next from cleaning up."""
    prepare(ahead, WebSocketDisconnectFilter)
    ran: list[int] = []
    add(WebSocketDisconnectFilter, raising(error))
    add(WebSocketDisconnectFilter, lambda *_: ran.append(1))
    run(WebSocketDisconnectFilter)
    assert ran == [1]
    assert len(caplog.records) == 1


@also_async
def test_the_handshake_chain_passes_a_rejection(
    ahead: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """RejectHandshake reaches the server, which answers with it; later filters do not run."""
    prepare(ahead, WebSocketHandshakeFilter)
    rejection = RejectHandshake(401, "who are you?")
    add(WebSocketHandshakeFilter, raising(rejection))
    add(WebSocketHandshakeFilter, raising(AssertionError("the next filter ran")))
    with pytest.raises(RejectHandshake) as raised:
        run(WebSocketHandshakeFilter, Request("GET", "/"))
    assert raised.value is rejection
    assert caplog.records == []


@also_async
@pytest.mark.parametrize("error", [DropMessage(), ValueError(), SystemExit()])
def test_the_handshake_chain_lets_nobody_in_by_mistake(
    error: BaseException, ahead: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Anything else that is raised there, DropMessage too, is a logged error and refuses."""
    prepare(ahead, WebSocketHandshakeFilter)
    add(WebSocketHandshakeFilter, raising(error))
    assert run(WebSocketHandshakeFilter, Request("GET", "/")) is None
    assert type(error).__name__ in caplog.text


# Async filters


def test_async_filters_run_in_order() -> None:
    """Each filter, sync or async, waits for the one before it and gets its result."""

    async def slow(web_socket_instance: Any, msg: Message) -> bytes:
        await asyncio.sleep(0)
        return msg + b"1"

    add(WebSocketMessageFilter, slow)
    add(WebSocketMessageFilter, lambda _, msg: msg + b"2")
    add(WebSocketMessageFilter, slow)
    assert run(WebSocketMessageFilter, Message(b"0")) == b"0121"


def test_cancelling_an_async_filter_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Cancellation goes through the chain and is not logged."""

    async def hang(web_socket_instance: Any, msg: Message) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        async with asyncio.timeout(0):
            await WebSocketMessageFilter.run(FakeConnection(), Message())

    add(WebSocketMessageFilter, hang)
    with pytest.raises(TimeoutError):
        asyncio.run(main())
    assert caplog.records == []


@pytest.mark.parametrize("chain", [Chain, MeteredChain])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_would_end_the_server_is_an_error(
    chain: type[Chain], error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    """Also from a filter that makes it of its own cancellation: the event loop must not see it."""

    async def give_up(web_socket_instance: Any, msg: Message) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise error from None

    async def main() -> None:
        run = chain(WebSocketMessageFilter).run(FakeConnection(), Message())
        task = asyncio.get_running_loop().create_task(run)
        await asyncio.sleep(0)
        task.cancel()
        assert await task is None

    add(WebSocketMessageFilter, give_up)
    asyncio.run(main())
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [error]


# What is refused before the server listens


def test_an_async_data_filter_is_refused() -> None:
    """Bytes are read faster than a coroutine could follow."""

    class Slow(WebSocketDataFilter):
        @classmethod
        async def filter(cls, web_socket_instance: Any, data: bytearray) -> None: ...

    with pytest.raises(FilterError, match=r"Slow: a WebSocketDataFilter cannot be async"):
        WebSocketDataFilter.chain()


def test_a_forgotten_classmethod_is_refused() -> None:
    """The error names the filter, its file and line, and what is missing."""

    class Forgot(WebSocketMessageFilter):
        def filter(cls, web_socket_instance: Any, msg: Message) -> None: ...

    line = Forgot.filter.__code__.co_firstlineno
    with pytest.raises(FilterError, match="put @classmethod or @staticmethod above") as error:
        WebSocketMessageFilter.chain()
    assert f"Forgot ({__file__}, line {line})" in str(error.value)


def test_a_filter_with_too_few_arguments_is_refused() -> None:
    """It would fail for every message; the error says what to write."""

    class Short(WebSocketMessageFilter):
        @classmethod
        def filter(cls, web_socket_instance: Any) -> None: ...  # type: ignore[override]

    expected = r"Short \(.+\): write `def filter\(cls, web_socket_instance, data\)`"
    with pytest.raises(FilterError, match=expected):
        WebSocketMessageFilter.chain()


def test_a_decorator_may_add_arguments() -> None:
    """What counts is what can be called, not what a decorator calls."""

    def with_greeting(function: Any) -> Any:
        @wraps(function)
        def wrapper(*arguments: Any) -> Any:
            return function(*arguments, "hello")

        return wrapper

    class Decorated(WebSocketMessageFilter):
        @classmethod
        @with_greeting
        def filter(cls, web_socket_instance: Any, msg: Message, greeting: str) -> str:
            return greeting

    assert WebSocketMessageFilter.run(None, Message(b"x")) == b"hello"


def test_a_filter_that_is_no_method_is_refused() -> None:
    """A class whose `filter` cannot be called is found before a message comes."""

    class Wrong(WebSocketMessageFilter):
        filter = "broadcast"  # type: ignore[assignment]

    with pytest.raises(FilterError, match="Wrong: `filter` is str, not a method"):
        WebSocketMessageFilter.chain()


@also_async
@pytest.mark.parametrize("chain", [WebSocketMessageFilter, WebSocketConsumerFilter])
def test_a_cancellation_of_something_else_is_an_error(
    chain: type[FilterBase], ahead: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A filter that passes on a cancellation which nobody meant for it has failed."""
    prepare(ahead, chain)
    add(chain, raising(asyncio.CancelledError("of something else")))
    add(chain, lambda *_: pytest.fail("it ran"))
    assert run(chain, Message()) is None
    (record,) = caplog.records
    assert f"{__name__}.Added failed" in record.getMessage()
    assert "CancelledError: of something else" in caplog.text


@also_async
def test_an_error_that_cannot_be_shown(ahead: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """An exception whose text fails too costs one line with the name of the filter, no more."""

    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    prepare(ahead)
    add(WebSocketMessageFilter, raising(Unspeakable()))
    assert run(WebSocketMessageFilter, Message()) is None
    (record,) = caplog.records
    assert f"{__name__}.Added failed" in record.getMessage()
    assert "Unspeakable" in caplog.text
