"""The dashboard page, served by the real server and shown by a real browser."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, expect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from ..integration.redis_server import RedisProcess, free_port
from ..process import ServerProcess
from .conftest import Visit

Start = Callable[..., ServerProcess]
Open = Callable[..., Page]

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FILTERS = {
    "doorkeeper": """
from filtered_websocket.filters.base import RejectHandshake, WebSocketHandshakeFilter

class DoorkeeperFilter(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance, request):
        if "key" not in request.query:
            raise RejectHandshake(403, "a ?key= is needed")
""",
    "picky": """
from filtered_websocket.filters.base import DropMessage, WebSocketMessageFilter

class PickyFilter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if msg == b"drop":
            raise DropMessage
""",
    "fragile": """
from filtered_websocket.filters.base import WebSocketMessageFilter

class FragileFilter(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        if msg == b"fail":
            raise ValueError("I cannot take this")
""",
}


@pytest.fixture
def metrics_port() -> int:
    """The port of the dashboard, the same when the server is started again."""
    return free_port()


@pytest.fixture
def start(start_server: Start, metrics_port: int, tmp_path: Path) -> Start:
    """Start a server with a dashboard; modules of FILTERS can be given to `-f`."""
    for name, source in FILTERS.items():
        (tmp_path / f"{name}.py").write_text(source)

    def start(*arguments: str, **settings: object) -> ServerProcess:
        server = start_server("--metrics_port", str(metrics_port), *arguments, **settings)
        assert server.port
        return server

    return start


@pytest.fixture
def open_dashboard(visit: Visit, metrics_port: int) -> Open:
    """Open the dashboard and wait until it has heard from a server that is ready."""

    def open_dashboard(**options: object) -> Page:
        page = visit(f"http://localhost:{metrics_port}/", **options)
        expect_state(page, "ready", "ready")
        return page

    return open_dashboard


# Figures


def test_the_figures_are_those_of_what_was_sent(start: Start, open_dashboard: Open) -> None:
    """Connections, messages, deliveries, drops, errors, refusals and closes are all counted."""
    server = start("-f", "doorkeeper", "picky", "fragile", "broadcast_messages")
    page = open_dashboard()
    url = f"{server.url}?key=1"
    for _ in range(2):
        with pytest.raises(InvalidStatus):
            connect(server.url)
    with connect(url) as sender, connect(url) as a, connect(url) as b:
        expect_tile(page, "Connections", "3", "3 in total")
        for text in ["drop"] * 2 + ["fail"] * 3 + ["hello"] * 5:
            sender.send(text)
        for receiver in (a, b):
            assert [receiver.recv(timeout=10) for _ in range(5)] == ["hello"] * 5
        expect_tile(page, "Messages in /s", re.compile(r"\d"), "10 in total")
        expect_tile(page, "Deliveries /s", re.compile(r"\d"), "10 in total")
        expect_tile(page, "Filter errors /s", re.compile(r"\d"), "3 in total")
        expect_tile(page, "Drops /s", "0", "0 in total")
        expect(plot(page, 0)).to_have_attribute(
            "aria-label", "Connections: open 3, from 0 to 3 in the last five minutes"
        )
        expect_filters(
            page,
            ("doorkeeper · DoorkeeperFilter", "handshake", "5", "0", "0"),
            ("picky · PickyFilter", "message", "10", "0", "2"),
            ("fragile · FragileFilter", "message", "8", "3", "0"),
            ("broadcast_messages · BroadcastMessagesFilter", "message", "5", "0", "0"),
        )
        chain = page.locator(".chain", has=page.get_by_role("heading", name="message"))
        expect(chain.locator(".box code")).to_have_text(["picky", "fragile", "broadcast_messages"])
        expect(chain.locator(".kind")).to_have_text(["sync", "async", "sync"])
        expect(chain.locator(".outcomes li")).to_have_text(["passed5", "dropped2", "failed3"])
        expect_rows(
            page,
            "lost",
            ["A filter of the message chain failed", "3"],
            ["A filter of the message chain dropped it (DropMessage)", "2"],
        )
        refusal = "403 · a handshake filter said no: the log says why"
        expect_rows(page, "refused", [refusal, "2"])
        expect(page.locator("#closed-none")).to_be_visible()
    expect_rows(page, "closed", ["1000 · normal end", "client", "3"])
    expect_tile(page, "Connections", "0", "3 in total")


def test_labels_are_shown_as_they_are(start: Start, visit: Visit, metrics_port: int) -> None:
    """Quotes, backslashes, braces and markup in a label are what the page shows."""
    start()
    page = visit("about:blank")
    sample = r"""
fws_handshakes_refused_total{status="418",reason="<b>a \"quoted\" {\\} \n reason</b>"} 7
"""

    def add_sample(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, body=response.text() + sample)

    page.route("**/metrics", add_sample)
    page.goto(f"http://localhost:{metrics_port}/")
    expect_rows(page, "refused", ['418 · <b>a "quoted" {\\} \n reason</b>', "7"])
    page.unroute_all(behavior="wait")


def test_rates_rise_and_fall(start: Start, open_dashboard: Open) -> None:
    """While messages come their rate is shown, and it is 0 when they have stopped."""
    server = start("-f", "broadcast_messages")
    page = open_dashboard()
    figure = tile(page, "Messages in /s").locator("dd").first
    with connect(server.url) as client:
        for _ in range(1000):
            client.send("hello")
        expect(figure).to_have_text(re.compile(r"^[1-9]"))
        expect(figure).to_have_text("0", timeout=15_000)
        expect(plot(page, 1)).to_have_attribute(
            "aria-label", re.compile(r"per second 0, from 0 to [1-9]")
        )


def test_without_clients_it_tells_how_to_connect(start: Start, open_dashboard: Open) -> None:
    """A new server's page says what to do, and stops saying it when a client comes."""
    server = start("-f")
    page = open_dashboard()
    expect(page.locator("#nobody")).to_be_visible()
    expect(page.locator("#no-filters")).to_be_visible()
    with connect(server.url):
        expect(page.locator("#nobody")).to_be_hidden()


def test_a_slow_client_is_seen(start: Start, open_dashboard: Open) -> None:
    """What a client that does not read makes wait and drop is told, and makes its tile amber."""
    server = start(
        *("--slow_client", "drop_oldest", "--max_queue_bytes", "100000", "--ping_interval", "0"),
        *("-f", "broadcast_messages"),
    )
    page = open_dashboard()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        reader = connect(server.url, sock=sock, max_queue=1, ping_interval=None, close_timeout=0)
        with reader, connect(server.url) as sender:
            for _ in range(300):
                sender.send(bytes(50_000))
            drops = tile(page, "Drops /s")
            expect(drops).to_have_attribute("data-level", "warn")
            expect(page.locator("#lost tr").first).to_contain_text("A client read too slowly")
            expect(page.locator("#waiting dd").first).to_have_text(re.compile("^[1-9]"))
            expect(drops).to_have_attribute("data-level", "", timeout=15_000)


def test_charts_tell_the_figures_of_a_moment(start: Start, open_dashboard: Open) -> None:
    """Under the pointer, or with the arrow keys, the page says what was when, in all charts."""
    server = start()
    page = open_dashboard()
    figures, moment = page.locator("#charts figcaption b"), page.locator("#moment")
    at = re.compile(r"^at \d\d:\d\d:\d\d$")
    with connect(server.url):
        expect(figures.first).to_have_text("1")
        plot(page, 0).hover(position={"x": 45, "y": 60})
        expect(moment).to_have_text(at)
        expect(figures.first).to_have_text("0")
        page.locator("h1").hover()
        expect(moment).to_be_empty()
        expect(figures.first).to_have_text("1")
        plot(page, 1).focus()
        for _ in range(3):
            page.keyboard.press("ArrowLeft")
        expect(moment).to_have_text(at)
        page.keyboard.press("Tab")
        expect(moment).to_be_empty()


# When something is away


def test_a_server_that_is_gone_and_comes_back(
    start: Start, open_dashboard: Open, complaints: list[str]
) -> None:
    """The page says since when nothing came, goes on by itself, and shows no negative rate."""
    first = start()
    page = open_dashboard()
    with connect(first.url) as client:
        for _ in range(100):
            client.send("hello")
        expect_tile(page, "Messages in /s", re.compile(r"\d"), "100 in total")
        first.kill()
    silence = re.compile(r"^no answer since \d\d:\d\d:\d\d; the figures are of then$")
    expect_state(page, "gone", silence)
    expect_tile(page, "Messages in /s", re.compile(r"\d"), "100 in total")
    second = start()
    expect_state(page, "ready", "ready", timeout=10_000)
    with connect(second.url) as client:
        client.send("hello")
        expect_tile(page, "Messages in /s", re.compile(r"^\d"), "1 in total")
        expect(page.locator(".plot .restart")).to_have_count(6)
        assert not re.search(r"[-−]\d", page.locator("main").inner_text())
    assert complaints and all("ERR_CONNECTION_REFUSED" in complaint for complaint in complaints)
    complaints.clear()


def test_a_server_that_is_not_ready_says_why(
    start: Start, open_dashboard: Open, complaints: list[str]
) -> None:
    """When the figures say that the server is not ready, the page shows what `/ready` says."""
    start()
    page = open_dashboard()

    def be_busy(route: Route) -> None:
        response = route.fetch()
        body = response.text().replace("\nfws_ready 1", "\nfws_ready 0")
        route.fulfill(response=response, body=body)

    page.route("**/ready", lambda route: route.fulfill(status=503, body="draining\n"))
    page.route("**/metrics", be_busy)
    expect_state(page, "not-ready", "not ready: draining")
    page.unroute_all(behavior="wait")
    expect_state(page, "ready", "ready")
    assert complaints and all("503" in complaint for complaint in complaints)
    complaints.clear()


@pytest.mark.redis
def test_redis_is_away_and_back(start: Start, open_dashboard: Open, tmp_path: Path) -> None:
    """Without Redis there is no word of it; with it, the page tells when it is away."""
    with RedisProcess(tmp_path / "redis") as redis:
        storage = {"STORAGE_OBJECT_MODULE": "filtered_websocket.storage_objects.redis"}
        start("--redis_port", str(redis.port), environ=storage)
        page = open_dashboard()
        away, state = page.locator("#redis-away"), page.locator("#redis dd").first
        expect(state).to_have_text("connected")
        expect(away).to_be_hidden()
        redis.kill()
        expect(away).to_have_text(re.compile(r"^Redis is away since \d\d:\d\d:\d\d$"))
        expect(state).to_have_text(re.compile("^away since"))
        redis.start()
        expect(state).to_have_text("connected", timeout=15_000)
        expect(away).to_be_hidden()
        expect(page.locator("#redis dd").nth(1)).to_have_text("1")


def test_without_redis_nothing_is_said_of_it(start: Start, open_dashboard: Open) -> None:
    """A server with the default storage has a dashboard without Redis."""
    start()
    page = open_dashboard()
    expect(page.locator("#redis-section")).to_be_hidden()
    expect(page.locator("#redis-away")).to_be_hidden()


# Every screen


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_needs_no_sideways_scrolling(
    start: Start, open_dashboard: Open, scheme: str
) -> None:
    """At 360 pixels everything fits the width, with figures in every section."""
    server = start("-f", "doorkeeper", "picky", "fragile", "broadcast_messages")
    page = open_dashboard(viewport={"width": 360, "height": 640}, color_scheme=scheme)
    with pytest.raises(InvalidStatus):
        connect(server.url)
    with connect(f"{server.url}?key=1") as client:
        for text in ("drop", "fail", "hello", "too long " * 200_000):
            client.send(text)
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=10)
    expect_rows(page, "closed", ["1009 · a message over --max_message_size", "server", "1"])
    expect(page.locator("#lost tr")).to_have_count(2)
    too_wide = page.evaluate(
        """[document.documentElement, ...document.querySelectorAll("body *")]
            .filter(element => !element.closest("thead, .visually-hidden, svg *"))
            .filter(element => element.getBoundingClientRect().right > innerWidth
                || element.matches("html, .card, .box")
                    && element.scrollWidth > element.clientWidth)
            .map(element => element.outerHTML)"""
    )
    assert too_wide == []
    brightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g)")
    assert (int(brightness[0]) < 128) == (scheme == "dark")


def tile(page: Page, name: str) -> Locator:
    return page.locator(".tile").filter(has=page.get_by_text(name, exact=True))


def plot(page: Page, index: int) -> Locator:
    return page.locator("svg.plot").nth(index)


def expect_state(
    page: Page, state: str, text: str | re.Pattern[str], timeout: float = 10_000
) -> None:
    """Wait until the page tells this state of the server."""
    expect(page.locator("#status")).to_have_text(text, timeout=timeout)
    expect(page.locator("#status")).to_have_attribute("data-state", state)


def expect_tile(page: Page, name: str, figure: str | re.Pattern[str], detail: str) -> None:
    """Wait until this tile shows the figure, and the detail under it."""
    expect(tile(page, name).locator("dd").nth(0)).to_have_text(figure)
    expect(tile(page, name).locator("dd").nth(1)).to_have_text(detail)


def expect_filters(page: Page, *rows: tuple[str, str, str, str, str]) -> None:
    """Wait until the table has these rows of filter, chain, runs, errors and drops."""
    for index, (name, chain, *counts) in enumerate(rows):
        cells = page.locator("#filters tr").nth(index).locator("th, td")
        expect(cells.nth(0)).to_have_text(name)
        expect(cells.nth(1)).to_have_text(chain)
        for column, count in enumerate(counts, 3):
            expect(cells.nth(column)).to_have_text(count)
    expect(page.locator("#filters tr")).to_have_count(len(rows))


def expect_rows(page: Page, table: str, *rows: list[str]) -> None:
    """Wait until the table has these rows; the rate behind them may be any."""
    expect(page.locator(f"#{table} tr")).to_have_count(len(rows))
    for index, row in enumerate(rows):
        cells = page.locator(f"#{table} tr").nth(index).locator("th, td")
        for column, text in enumerate(row):
            expect(cells.nth(column)).to_have_text(text)
