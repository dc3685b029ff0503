"""The examples that have a page: started by the command in their README, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from websockets.sync.client import connect

from ..example_folder import ExampleFolder
from ..integration.redis_server import RedisProcess
from ..process import wait_until
from .conftest import Visit

Copy = Callable[..., ExampleFolder]

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 640}, "color_scheme": "dark"}
MARKUP = "<img src=x onerror='throw 1'><b>bold</b><script>throw 2</script>"


@pytest.fixture
def redis_process(tmp_path: Path) -> Iterator[RedisProcess]:
    """A Redis for the examples that need one."""
    with RedisProcess(tmp_path / "redis") as redis_process:
        yield redis_process


@pytest.fixture(autouse=True)
def expected_complaints(complaints: list[str]) -> Iterator[None]:
    """Let the browser say that a server was not there for a moment, or has refused."""
    yield
    expected = re.compile(r"WebSocket connection to \S+ failed")
    complaints[:] = [text for text in complaints if not expected.match(text)]


def expect_state(page: Page, text: str) -> None:
    expect(page.get_by_role("status")).to_have_text(text, timeout=10_000)


def expect_to_fit(page: Page) -> None:
    """Nothing is wider than the screen, and the page is as dark as the visitor wants it."""
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["viewport"]["width"]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, re.findall(r"\d+", background))) < 100


# A chat with nicknames


def join(page: Page, nickname: str) -> None:
    page.get_by_label("Nickname").fill(nickname)
    page.get_by_role("button", name="Join").click()


def say(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Send").click()


def test_chat(example_folder: Copy, visit: Visit) -> None:
    """Two tabs talk under nicknames of their own; markup in either is only text."""
    example = example_folder("chat").serve()
    ada, bob = visit(example.page), visit(example.page, **PHONE)
    join(ada, "Ada")
    expect_state(ada, "You are Ada.")
    join(bob, "ada")
    expect_state(bob, "ada is taken")
    join(bob, "<b>Bob</b>")
    expect_state(bob, "You are <b>Bob</b>.")
    say(ada, MARKUP)
    rows = bob.locator("#log li")
    expect(rows).to_have_text(["<b>Bob</b> is here", f"Ada{MARKUP}"])
    expect(rows.locator("*:not(b)")).to_have_count(0)
    expect_to_fit(bob)
    say(bob, "hello")
    expect(ada.locator("#log li").last).to_have_text("<b>Bob</b>hello")
    ada.close()
    expect(rows.last).to_have_text("Ada has left")


def test_a_chat_goes_on_when_the_server_is_back(example_folder: Copy, visit: Visit) -> None:
    """The page says that it is not connected, tries again, and needs no click."""
    example = example_folder("chat").serve()
    ada = visit(example.page)
    join(ada, "Ada")
    expect_state(ada, "You are Ada.")
    example.stop()
    expect_state(ada, "Not connected; trying again…")
    example.serve()
    expect_state(ada, "You are Ada.")
    bob = visit(example.page)
    join(bob, "Bob")
    say(bob, "welcome back")
    expect(ada.locator("#log li").last).to_have_text("Bobwelcome back")


# A live dashboard


@pytest.mark.redis
def test_dashboard(example_folder: Copy, visit: Visit, redis_process: RedisProcess) -> None:
    """What the script publishes moves the page; a page that comes later shows it at once."""
    example = example_folder("dashboard", redis_port=redis_process.port).serve()
    page = visit(example.page)
    expect_state(page, "Live")
    script = example.start(example.commands[1])
    cards = page.locator("article")
    names = ["load", "free memory, MiB", "free disk, GiB"]
    expect(cards.locator("h2")).to_have_text(names)
    points = cards.last.locator("polyline")
    expect(points).to_have_attribute("points", re.compile(r"^\S+ \S+$"), timeout=10_000)
    script.kill()
    late = visit(example.page, **PHONE)
    expect(late.locator("article h2")).to_have_text(names)
    expect_to_fit(late)
    redis_process.connect().publish("global", '{"name": "<b>x</b>", "value": 12.5}')
    expect(cards.last.locator("h2")).to_have_text("<b>x</b>")
    expect(cards.last.locator("output")).to_have_text("12.5")


# Who is here


def come(page: Page, name: str) -> Page:
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Come in").click()
    return page


def test_presence(example_folder: Copy, visit: Visit) -> None:
    """Everybody sees who comes, who looks at something else, and who goes."""
    example = example_folder("presence").serve()
    ada = come(visit(example.page), "Ada")
    expect_state(ada, "You are alone.")
    bob = come(visit(example.page, **PHONE), MARKUP[:20])
    people = ada.locator("#people li")
    expect(people).to_have_text(["Adayou", MARKUP[:20]])
    expect(bob.locator("#people li")).to_have_text(["Ada", f"{MARKUP[:20]}you"])
    expect_to_fit(bob)
    bob.evaluate(
        """() => {
            Object.defineProperty(document, "hidden", { value: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    expect(people.last).to_have_text(f"{MARKUP[:20]}away")
    bob.close()
    expect(people).to_have_text(["Adayou"])
    example.stop()
    expect(people).to_have_count(0)


# A canvas for all


def draw(page: Page, colour: str, *points: tuple[int, int]) -> None:
    page.get_by_label(colour).check()
    box = page.locator("canvas").bounding_box()
    assert box is not None
    for index, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x, box["y"] + y)
        if index == 0:
            page.mouse.down()
    page.mouse.up()


def pixels(page: Page) -> str:
    """Return the drawing, as the address of an image."""
    return str(page.evaluate("document.querySelector('canvas').toDataURL()"))


def test_canvas(example_folder: Copy, visit: Visit) -> None:
    """What one draws, all see, also those that come later; what is no line nobody sees."""
    example = example_folder("canvas").serve()
    ada, bob = visit(example.page), visit(example.page)
    for page in (ada, bob):
        expect_state(page, "Draw!")
    empty = pixels(bob)
    draw(ada, "red", (50, 50), (120, 80), (60, 140))
    wait_until(lambda: pixels(bob) == pixels(ada) != empty, "Ada's lines")
    one = pixels(bob)
    draw(bob, "blue", (200, 50), (250, 150))
    wait_until(lambda: pixels(ada) == pixels(bob) != one, "Bob's lines")
    with connect(f"ws://localhost:{example.port}/") as hostile:
        hostile.send("no line")
        hostile.send(b"\xff" * 9)
        late = visit(example.page, **PHONE)
        wait_until(lambda: pixels(late) == pixels(ada), "the drawing")
        expect_to_fit(late)


# Notifications for those who are signed in


@pytest.mark.redis
def test_notifications(example_folder: Copy, visit: Visit, redis_process: RedisProcess) -> None:
    """A notification reaches its user only; the token is in no output but that of its maker."""
    example = example_folder("notifications", redis_port=redis_process.port).serve()
    links = dict(re.findall(r"^(\w+): (http://\S+)$", example.output, re.MULTILINE))
    ada, bob = visit(links["ada"]), visit(links["bob"], **PHONE)
    for page in (ada, bob):
        expect_state(page, "Listening")
        assert "#" not in page.url, "the token is not in the address any more"
    redis_process.wait_for_servers(1)
    assert example.start(example.commands[1]).wait(10) == 0
    notification = ada.locator("#list li")
    expect(notification).to_have_text(re.compile("your parcel has arrived$"))
    example.start(f'python3 notify.py bob "{MARKUP}"')
    expect(bob.locator("#list li")).to_have_text(re.compile(re.escape(MARKUP)))
    expect(bob.locator("#list li *:not(time)")).to_have_count(0)
    expect_to_fit(bob)
    assert notification.count() == 1
    stranger = visit(links["ada"][:-1] + "!")
    expect_state(stranger, "Refused: is the token valid, and does the server run?")
    stranger.get_by_label("Token").fill("two words")
    stranger.get_by_role("button", name="Sign in").click()
    expect_state(stranger, "This is not a token.")
    tokens = [link.partition("#")[2] for link in links.values()]
    example.stop()
    assert [example.output.count(token) for token in tokens] == [1, 1]
    assert "a valid token is needed" in example.output


@pytest.mark.redis
def test_listening_goes_on_when_the_server_is_back(
    example_folder: Copy, visit: Visit, redis_process: RedisProcess
) -> None:
    """With the same key the page is let in again by itself."""
    example = example_folder("notifications", redis_port=redis_process.port)
    example.commands[0] = re.sub(r"\$\(.*\)", "x" * 32, example.commands[0])
    example.serve()
    page = visit(example.output.split()[1])
    expect_state(page, "Listening")
    example.stop()
    expect_state(page, "Not connected; trying again…")
    example.serve()
    expect_state(page, "Listening")
    redis_process.wait_for_servers(1)
    example.start(example.commands[1])
    expect(page.locator("#list li")).to_have_text(re.compile("your parcel has arrived$"))


# What a UNIX command prints


def test_command_output(example_folder: Copy, visit: Visit) -> None:
    """Each tab shows what the command prints, as text; the command ends with the server."""
    example = example_folder("command_output")
    (command,) = example.commands
    example.commands = [command.replace("while", r"echo \$\$ '<b>bold</b> größer'; while")]
    example.serve()
    page = visit(example.page, **PHONE)
    expect_state(page, "Live")
    output = page.locator("#output")
    expect(output).to_have_text(re.compile(r"^\d+ <b>bold</b> größer\s.*(:\d\d.*){4}", re.DOTALL))
    expect_to_fit(page)
    pid = int(output.inner_text().split()[0])
    assert Path(f"/proc/{pid}").exists()
    example.stop()
    assert not Path(f"/proc/{pid}").exists()
