"""The tutorial, followed section by section: its files, commands, addresses and what they show."""

from __future__ import annotations

import ast
import asyncio
import re
import shutil
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from websockets.asyncio.client import ClientConnection as AsyncConnection
from websockets.asyncio.client import connect as async_connect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from ..process import DEADLINE
from ..tutorial import PAGE, ROOT, Reader
from .redis_server import RedisProcess

pytestmark = [pytest.mark.slow]
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
Visit = Callable[[str], ClientConnection]


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that all may read: what root starts as nginx serves it as somebody else."""
    with TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)
        yield path


@pytest.fixture
def reader(home: Path) -> Iterator[Reader]:
    reader = Reader(home)
    yield reader
    reader.close()


@pytest.fixture
def reader_with_redis(home: Path, redis_process: RedisProcess) -> Iterator[Reader]:
    reader = Reader(home, redis_process.port)
    yield reader
    reader.close()


@pytest.fixture
def visit() -> Iterator[Visit]:
    """Do what the console does at an address: connect to the same one."""
    with ExitStack() as stack:
        yield lambda address: stack.enter_context(
            connect(address.replace("http", "ws", 1), close_timeout=0.2)
        )


def received(client: ClientConnection) -> str:
    message = client.recv(timeout=DEADLINE)
    assert isinstance(message, str)
    return message


def closed(client: ClientConnection) -> tuple[str, str]:
    """Return close code and reason, as the console shows them."""
    with pytest.raises(ConnectionClosed) as error:
        client.recv(timeout=DEADLINE)
    assert error.value.rcvd is not None
    return str(error.value.rcvd.code), error.value.rcvd.reason


def test_each_file_is_shown() -> None:
    """The page has all files of its folder, and no step needs one that it does not show."""
    folder = ROOT / "examples" / "tutorial"
    kinds = (".py", ".toml", ".conf", ".html")
    own = [path for path in folder.rglob("*") if path.suffix in kinds]
    shown = re.findall(r"^```{literalinclude} \.\./examples/tutorial/(\S+)", PAGE.read_text(), re.M)
    assert sorted(shown) == sorted(str(path.relative_to(folder)) for path in own)


def test_the_first_server_is_a_chat(reader: Reader, visit: Visit) -> None:
    """What `make run` starts is where the page says, and sends to the other tab."""
    heading = "Start the server"
    reader.follow(heading)
    (address,) = reader.addresses(heading)
    ada, bob = visit(address), visit(address)
    ada.send("hello")
    assert received(bob) == "hello"
    reader.see(heading)


def test_the_folder_is_made(reader: Reader) -> None:
    """The commands that install nothing lead into the folder that the tests run in."""
    (commands,) = reader.commands("Make a folder")
    activate, install, rest = commands.split("\n", 2)
    assert (activate, install) == (". .venv/bin/activate", "pip install --editable '.[testing]'")
    assert reader.shell(f"rmdir ~/chat; {rest}pwd").wait().strip() == str(reader.folder)


def test_the_first_filter_shouts(reader: Reader, visit: Visit) -> None:
    """It is the one that the page shows without comments, and it and its test run."""
    heading = "Write a filter"
    *_, server, _ = reader.follow(heading)
    (address,) = reader.addresses("Start the server")
    ada, bob = visit(address), visit(address)
    ada.send(reader.quote(heading, "hello"))
    assert received(bob) == reader.quote(heading, "HELLO")
    reader.see(heading)
    shown, written = (
        ast.dump(ast.parse(path.read_text()).body[-1])
        for path in (ROOT / "examples" / "shout.py", reader.folder / "shout.py")
    )
    assert shown == written


def test_messages_are_signed(reader: Reader, visit: Visit) -> None:
    """Bob hears that it was Ada; nobody is closed."""
    heading = "Give nicknames"
    reader.follow(heading)
    ada, bob, nobody = map(visit, reader.addresses(heading))
    ada.send("hello")
    assert received(bob) == reader.quote(heading, "Ada: hello")
    code, reason = closed(nobody)
    reader.quote(heading, f"closed: code {code}")
    reader.quote(heading, reason)


def test_the_tests_pass(reader: Reader) -> None:
    """As many as the page says."""
    heading = "Test it"
    reader.follow(heading)
    reader.see(heading)


def test_each_nickname_is_let_in_once(reader: Reader, visit: Visit) -> None:
    """The second Ada is told why not, and those who come and go are announced."""
    heading = "Let each nickname in once"
    reader.follow("Write a filter")[-2].ctrl_c()  # its test counts too
    reader.follow(heading)
    reader.see(heading)
    ada_at, bob_at, third_at = reader.addresses(heading)
    ada = visit(ada_at)
    assert received(ada) == "Ada is here"
    bob = visit(bob_at)
    assert received(ada) == reader.quote(heading, "Bob is here")
    code, reason = closed(visit(third_at))
    reader.quote(heading, f"closed: code {code}")
    assert reason == reader.quote(heading, "ada is taken")
    bob.close()
    assert received(ada) == reader.quote(heading, "Bob has left")


def test_what_is_inside_is_seen(reader: Reader, visit: Visit) -> None:
    """The wrong order, the trace of a message, and the dashboard."""
    heading = "Look inside"
    check, _ = reader.follow(heading)
    assert "fws_server: warning: " in check.output
    address, *_ = reader.addresses("Give nicknames")
    ada, _bob = visit(address), visit(address.replace("Ada", "Bob"))
    ada.send("hello")
    reader.see(heading)
    (dashboard,) = reader.addresses(heading)
    page = reader.shell(f"curl --silent --fail {dashboard}").wait()
    assert "<title>" in page and "<html" in page


@pytest.mark.redis
def test_two_servers_are_one_chat(
    reader_with_redis: Reader, redis_process: RedisProcess, visit: Visit
) -> None:
    """They hear each other, and know each other's nicknames."""
    reader, heading = reader_with_redis, "Two servers, one chat"
    _, check, *_ = reader.follow(heading)
    assert check.output == "", "silence means that all is well"
    reader.see(heading)
    redis_process.wait_for_servers(2)
    ada_at, bob_at, second_ada_at = reader.addresses(heading)
    ada = visit(ada_at)
    assert received(ada) == "Ada is here"
    bob = visit(bob_at)
    assert received(ada) == "Bob is here"
    ada.send("hello")
    assert received(bob) == "Bob is here"
    assert received(bob) == "Ada: hello"
    assert closed(visit(second_ada_at)) == ("4001", reader.quote(heading, "Ada is taken"))


# The last step. Its client has an event loop: a TLS connection must not be read and written in two
# threads.


async def hear(client: AsyncConnection, last: str) -> None:
    """Wait for a message."""
    async with asyncio.timeout(DEADLINE):
        while await client.recv() != last:
            pass


@pytest.mark.redis
@pytest.mark.skipif(not NGINX, reason="nginx is not installed")
def test_nginx_spreads_the_chat_over_both_servers(
    reader_with_redis: Reader, redis_process: RedisProcess
) -> None:
    """Two guests are on two servers; when one stops, its guest comes back to the other."""
    reader, heading = reader_with_redis, "nginx in front"
    *_, first, _ = reader.follow("Two servers, one chat")
    redis_process.wait_for_servers(2)
    reader.follow(heading)
    reader.see(heading)
    (page,) = reader.addresses(heading)
    trust = ssl.create_default_context(cafile=reader.folder / "cert.pem")

    async def join(nickname: str) -> AsyncConnection:
        """Connect as the page does, again and again while the nickname is taken."""
        address = f"{page}chat?nickname={nickname}".replace("http", "ws", 1)
        async with asyncio.timeout(DEADLINE):
            while True:
                guest = await async_connect(address, ssl=trust, origin=Origin(page.rstrip("/")))
                try:
                    assert await guest.recv() == f"{nickname} is here"
                except ConnectionClosed:
                    continue
                return guest

    async def scenario() -> None:
        guests = {name: await join(name) for name in ("Ada", "Bob")}
        await hear(guests["Ada"], "Bob is here")
        await guests["Ada"].send("hello")
        await hear(guests["Bob"], "Ada: hello")
        await asyncio.to_thread(first.ctrl_c)
        await hear(guests["Bob"], "Ada has left")
        with pytest.raises(ConnectionClosed):
            await hear(guests["Ada"], "nothing more")
        assert guests["Ada"].close_code == 1001
        guests["Ada"] = await join("Ada")
        await guests["Ada"].send("hello again")
        await hear(guests["Bob"], "Ada: hello again")
        for guest in guests.values():
            await guest.close()

    asyncio.run(scenario())
