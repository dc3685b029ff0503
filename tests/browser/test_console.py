"""The console page, served by the real server and shown by a real browser."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme
from playwright.sync_api import Page, expect
from websockets.sync.client import connect

from ..process import ServerProcess, wait_until
from .chromium import FOREIGN_HOST
from .conftest import Visit

Start = Callable[..., ServerProcess]
Open = Callable[..., Page]

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def server(start_server: Start) -> ServerProcess:
    """A server with the default filters."""
    return start_server()


@pytest.fixture
def open_console(server: ServerProcess, visit: Visit) -> Open:
    """Open a console of the server and wait until it is connected."""

    def open_console(**options: object) -> Page:
        page = visit(console_of(server), **options)
        expect_state(page, "open", "connected")
        return page

    return open_console


# Chatting


def test_two_consoles_chat(server: ServerProcess, open_console: Open) -> None:
    """A's message is received by B, is only sent at A, and is printed by the server."""
    a, b = open_console(), open_console()
    send(a, "hello")
    expect_rows(b, ("received", "text", "hello"))
    send(b, "hello yourself")
    expect_rows(a, ("sent", "text", "hello"), ("received", "text", "hello yourself"))
    expect_rows(b, ("received", "text", "hello"), ("sent", "text", "hello yourself"))
    wait_until(lambda: server.stdout.count("--MESSAGE--\n") == 2, "two printed messages")
    assert " => hello\n" in server.stdout


def test_binary_is_written_and_shown_as_hex(open_console: Open) -> None:
    """Bytes typed as hex travel as a binary message, and are shown as hex beside their text."""
    a, b = open_console(), open_console()
    a.locator("#type-binary").check()
    send(a, "48 69\n00FF")
    expect_rows(a, ("sent", "binary", "48 69 00 ff  Hi.."))
    expect_rows(b, ("received", "binary", "48 69 00 ff  Hi.."))


@pytest.mark.parametrize(
    ("typed", "complaint"),
    [
        ("48 6x", "“6x” is not hex: use only 0–9 and a–f."),
        ("48 6", "“6” has an odd number of digits: each byte has two, such as 0a."),
        ("", "There is nothing to send yet."),
    ],
)
def test_bad_hex_is_an_error_of_its_field(open_console: Open, typed: str, complaint: str) -> None:
    """What cannot be sent stays in the field, with an error that the field is described by."""
    page = open_console()
    page.locator("#type-binary").check()
    composer = page.locator("#composer")
    send(page, typed)
    expect(composer).to_have_value(typed)
    expect(composer).to_have_attribute("aria-invalid", "true")
    expect(composer).to_have_attribute("aria-describedby", re.compile(r"\bcomposer-error\b"))
    expect(page.locator("#composer-error")).to_have_text(complaint)
    expect_rows(page)
    composer.fill("48")
    expect(composer).to_have_attribute("aria-invalid", "false")
    expect(page.locator("#composer-error")).to_be_empty()


def test_rows_tell_time_type_and_size(open_console: Open) -> None:
    """A row shows when a message came, its direction, its type, and its size in bytes."""
    a, b = open_console(), open_console()
    send(a, "größer")
    expect(b.locator("#log .row")).to_have_text(
        re.compile(r"^\s*\d\d:\d\d:\d\d\.\d{3}\s*received\s*text\s*8 B\s*größer\s*$")
    )


def test_messages_are_counted(open_console: Open) -> None:
    """The page shows how many messages went out and in, in the last second and in all."""
    a, b = open_console(), open_console()
    counts = [(a, "out"), (b, "in")]

    def rates_after_another() -> list[str]:
        send(a, "hello")
        return [page.locator(f"#rate-{way}").inner_text() for page, way in counts]

    wait_until(lambda: "0" not in rates_after_another(), "rates above zero")
    sent = a.locator("#log .row").count()
    for page, way in counts:
        expect(page.locator(f"#rate-{way}")).to_have_text("0")
        expect(page.locator(f"#total-{way}")).to_have_text(str(sent))


def test_html_is_shown_as_text(open_console: Open) -> None:
    """Markup in a message is shown as it was written, and does nothing."""
    markup = "<img src=x onerror='throw 1'><b>bold</b><script>throw 2</script>"
    a, b = open_console(), open_console()
    send(a, markup)
    expect_rows(b, ("received", "text", markup))
    expect(b.locator("#log .content *")).to_have_count(0)


def test_search_pause_and_clear(open_console: Open) -> None:
    """A search hides what does not match, a pause holds back what comes, clear empties the log."""
    a, b = open_console(), open_console()
    rows = b.locator("#log .row").filter(visible=True)
    for text in ("tea", "coffee", "green tea"):
        send(a, text)
    expect(rows).to_have_count(3)
    b.locator("#search").fill("TEA")
    expect(rows.locator(".content")).to_have_text(["tea", "green tea"])
    expect(b.locator("#matches")).to_have_text("2 of 3")
    b.get_by_role("button", name="Pause").click()
    send(a, "milk")
    send(a, "iced tea")
    expect(b.get_by_role("button", name="Resume (2 new)")).to_be_visible()
    expect(rows).to_have_count(2)
    b.get_by_role("button", name="Resume").click()
    expect(rows.locator(".content")).to_have_text(["tea", "green tea", "iced tea"])
    b.get_by_role("button", name="Clear").click()
    expect(rows).to_have_count(0)


# The connection


def test_disconnect_and_connect_again(open_console: Open) -> None:
    """A disconnected console gets and sends nothing, says so, and chats on when it is back."""
    a, b = open_console(), open_console()
    a.get_by_role("button", name="Disconnect").click()
    expect_state(a, "closed", "closed: code 1000 (you disconnected)")
    send(a, "kept")
    expect(a.locator("#composer-error")).to_have_text("Not connected: your message was not sent.")
    send(b, "lost")
    a.get_by_role("button", name="Connect", exact=True).click()
    expect_state(a, "open", "connected")
    a.locator("#send").click()
    expect_rows(b, ("sent", "text", "lost"), ("received", "text", "kept"))
    expect_rows(a, ("sent", "text", "kept"))


def test_a_stopped_server_says_goodbye(server: ServerProcess, open_console: Open) -> None:
    """When the server stops, the page shows the close code 1001 and the server's reason."""
    page = open_console()
    assert server.stop() == 0
    expect_state(page, "closed", "closed: code 1001 the server stops")
    expect(page.locator("#connect")).to_have_text("Connect")


def test_console_over_tls(start_server: Start, visit: Visit, tmp_path: Path) -> None:
    """A console that came over https connects through wss."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(tmp_path / "cert.pem", append=True)
    server = start_server("-key", "key.pem", "-cert", "cert.pem")
    url = console_of(server, scheme="https")
    a, b = (visit(url, ignore_https_errors=True) for _ in range(2))
    for page in (a, b):
        expect(page.locator("#address")).to_have_value(console_of(server, scheme="wss"))
        expect_state(page, "open", "connected")
    send(a, "in secret")
    expect_rows(b, ("received", "text", "in secret"))


def test_the_address_is_of_this_server(server: ServerProcess, open_console: Open) -> None:
    """Path and query of the address can be changed; another server is an error of the field."""
    page = open_console()
    address, complaint = page.locator("#address"), page.locator("#address-error")
    address.fill("ws://elsewhere.example/")
    address.press("Enter")
    expect(address).to_have_attribute("aria-invalid", "true")
    expect(complaint).to_contain_text("This page connects to its own server only")
    with page.expect_websocket() as opened:
        address.fill("/room?key=1")
        address.press("Enter")
    assert opened.value.url == f"{server.url}room?key=1"
    expect_state(page, "open", "connected")
    expect(complaint).to_be_empty()


def test_the_query_of_the_page_is_passed_on(server: ServerProcess, visit: Visit) -> None:
    """A page opened with ?key=… connects with it, for handshake filters that ask for it."""
    page = visit(f"{console_of(server)}?key=open-sesame")
    expect_state(page, "open", "connected")
    expect(page.locator("#address")).to_have_value(f"{server.url}?key=open-sesame")


# Pages of other origins


@pytest.fixture
def other_page(server: ServerProcess) -> Iterator[str]:
    """Another web server, whose page connects to ours and tells in its title what came of it.

    The value is its port.
    """
    page = f"""<!doctype html><title>waiting</title><link rel="icon" href="data:,"><script>
        const socket = new WebSocket("{server.url}");
        socket.onopen = socket.onerror = ({{ type }}) => {{ document.title = type; }};
    </script>""".encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web_server:
        thread = threading.Thread(target=web_server.serve_forever)
        thread.start()
        yield str(web_server.server_port)
        web_server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_page_of_this_machine_may_connect(visit: Visit, other_page: str, host: str) -> None:
    """All names of this machine count as one host, whatever the port."""
    expect(visit(f"http://{host}:{other_page}/")).to_have_title("open")


def test_a_page_of_another_host_is_refused(
    server: ServerProcess, visit: Visit, other_page: str, complaints: list[str]
) -> None:
    """A page from elsewhere cannot connect, and the log names the option that would let it."""
    origin = f"http://{FOREIGN_HOST}:{other_page}"
    expect(visit(origin)).to_have_title("error")
    assert "403" in complaints.pop()
    assert f"--origins {origin}\n" in server.stderr


def test_dns_rebinding_is_refused(
    server: ServerProcess, visit: Visit, complaints: list[str]
) -> None:
    """A foreign name that points to this machine does not connect, though Origin and Host agree."""
    page = visit(f"http://{FOREIGN_HOST}:{server.port}/")
    expect_state(page, "closed", re.compile("code 1006 .* --origins does not allow this page"))
    assert "403" in complaints.pop()


# Every screen, every hand


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_narrow_screen_needs_no_sideways_scrolling(open_console: Open, scheme: str) -> None:
    """At 320 pixels everything fits the width, long words, binary and errors included."""
    page = open_console(viewport={"width": 320, "height": 640}, color_scheme=scheme)
    send(page, "w" * 500)
    page.locator("#type-binary").check()
    send(page, "ab" * 100)
    send(page, "x" * 500)
    expect(page.locator("#composer-error")).not_to_be_empty()
    expect(page.locator("#log .row")).to_have_count(2)
    too_wide = page.evaluate(
        """[...document.querySelectorAll("body, body *:not(.visually-hidden)")]
            .filter(element => element.getBoundingClientRect().right > innerWidth
                || element.matches("body, #log, .content")
                    && element.scrollWidth > element.clientWidth)
            .map(element => element.outerHTML)"""
    )
    assert too_wide == []
    brightness = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g)")
    assert (int(brightness[0]) < 128) == (scheme == "dark")


def test_the_keyboard_is_enough(open_console: Open) -> None:
    """Without a mouse one can write, send, recall, and disconnect, and sees where the focus is."""
    a, b = open_console(), open_console()
    keyboard = a.keyboard
    keyboard.type("two")
    keyboard.press("Shift+Enter")
    keyboard.type("lines")
    keyboard.press("Enter")
    expect_rows(b, ("received", "text", "two\nlines"))
    keyboard.press("ArrowUp")
    expect(a.locator("#composer")).to_have_value("two\nlines")
    reached = []
    while "connect" not in reached and len(reached) < 20:
        keyboard.press("Shift+Tab")
        focused = a.locator(":focus")
        expect(focused).to_have_css("outline-style", "solid")
        reached.append(focused.get_attribute("id"))
    assert {"type-text", "log", "search", "clear", "pause", "connect"} <= set(reached)
    keyboard.press("Enter")
    expect_state(a, "closed", re.compile("you disconnected"))


# Many messages


def test_the_log_keeps_the_last_thousand(server: ServerProcess, open_console: Open) -> None:
    """Of 1,200 messages that were all shown, the last 1,000 remain."""
    page = open_console()
    last = page.locator("#log .row .content").last
    with connect(server.url) as client:
        for start in (0, 400, 800):
            for number in range(start, start + 400):
                client.send(str(number))
            expect(last).to_have_text(str(start + 399))
    shown = page.locator("#log .row .content").all_text_contents()
    assert shown == [str(number) for number in range(200, 1200)]


def test_a_burst_does_not_stop_the_page(server: ServerProcess, open_console: Open) -> None:
    """5,000 messages at once are counted, the last is shown, and the page goes on to answer."""
    page = open_console()
    with connect(server.url) as client:
        for number in range(5000):
            client.send(str(number))
        send(page, "still here")
        assert client.recv(timeout=10) == "still here"
    expect(page.locator("#total-in")).to_have_text("5,000")
    expect(page.locator("#log .row[data-direction=received] .content").last).to_have_text("4999")
    assert page.locator("#log > *").count() <= 1000


def test_a_paused_page_keeps_a_bounded_number(server: ServerProcess, open_console: Open) -> None:
    """Of 5,000 messages that come during a pause, the last 500 are shown and the rest counted."""
    page = open_console()
    page.get_by_role("button", name="Pause").click()
    with connect(server.url) as client:
        for number in range(5000):
            client.send(str(number))
        page.get_by_role("button", name="Resume (5,000 new)").click()
    expect(page.locator("#log .note")).to_have_text("… 4,500 messages not shown")
    expect(page.locator("#log .row")).to_have_count(500)
    expect(page.locator("#log .row .content").last).to_have_text("4999")


def console_of(server: ServerProcess, scheme: str = "http") -> str:
    return f"{scheme}://localhost:{server.port}/"


def send(page: Page, text: str) -> None:
    """Write into the page's field and press its button."""
    page.locator("#composer").fill(text)
    page.locator("#send").click()


def expect_state(page: Page, state: str, text: str | re.Pattern[str]) -> None:
    """Wait until the page tells this state of its connection."""
    expect(page.locator("#status")).to_have_text(text)
    expect(page.locator("#status")).to_have_attribute("data-state", state)


def expect_rows(page: Page, *rows: tuple[str, str, str]) -> None:
    """Wait until the log has exactly these rows of direction, type and content."""
    log = page.locator("#log .row")
    expect(log).to_have_count(len(rows))
    shown = log.evaluate_all(
        """rows => rows.map(row => [row.dataset.direction, row.dataset.type,
            row.querySelector(".content").textContent])"""
    )
    assert [tuple(row) for row in shown] == list(rows)
