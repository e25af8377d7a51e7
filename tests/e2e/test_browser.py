"""What only a browser can show: the documentation page in use, and live events on a page of another origin."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest

from e2e.browser import Browser, Tab, find_program, running_browser
from e2e.suite_process import Suite, embedded_suite
from infrastructure.run_directory import RunDirectory

pytestmark = pytest.mark.e2e
MISSING = "no chromium on this machine (Debian: apt-get install chromium)"
PAGE = "<!doctype html><html lang=en><title>A practice's own page</title><body></body></html>"
# Asks for a ticket, opens the stream, and resolves with the first events.
LISTEN = """
(async () => {
  const api = %(api)s, token = %(token)s;
  const answer = await fetch(`${api}/sync/v1/stream-tickets`,
    {method: 'POST', headers: {Authorization: `Bearer ${token}`, 'Content-Type': 'application/json'}});
  const {ticket} = await answer.json();
  const source = new EventSource(`${api}/sync/v1/stream?ticket=${encodeURIComponent(ticket)}`);
  const seen = [];
  return await new Promise((resolve, reject) => {
    source.onerror = () => reject(new Error(`stream failed after ${JSON.stringify(seen)}`));
    for (const name of ['resync', 'ps.sync.run.started', 'ps.sync.run.progressed', 'ps.sync.run.finished'])
      source.addEventListener(name, event => {
        seen.push([event.type, event.lastEventId, JSON.parse(event.data)]);
        if (name === 'ps.sync.run.finished') {
          source.close();
          resolve({seen, requestId: answer.headers.get('x-request-id'), status: answer.status, ticket});
        }
      });
  });
})()
"""


@pytest.fixture(scope="module")
def browser(run_directory: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_program()
    if program is None:
        with run_directory.exclusive("Browser") as note:
            note.write_text(json.dumps({"missing": MISSING}), encoding="utf-8")
        pytest.skip(MISSING)
    with running_browser(program, tmp_path_factory.mktemp("browser") / "profile") as started:
        yield started


@contextmanager
def page_server() -> Iterator[str]:
    """A page on an origin of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with page_server() as url:
        yield url


@pytest.fixture(scope="module")
def suite(browser: Browser, origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    data = tmp_path_factory.mktemp("suite") / "data"
    with embedded_suite(data, environment={"PS_CORS_ORIGINS": origin}) as started:
        yield started


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    with browser.tab() as opened:
        yield opened


@pytest.fixture
def docs(tab: Tab, suite: Suite) -> Tab:
    tab.width(1200)
    tab.open(docs_url(suite))
    return tab


def docs_url(suite: Suite) -> str:
    return suite.urls["auth-gateway"] + "/docs"


def shown_titles(tab: Tab) -> list[str]:
    """Titles of the operations that can be seen."""
    found = tab.evaluate("[...document.querySelectorAll('h4')].filter(e => e.offsetParent).map(e => e.textContent)")
    return list(found)


def test_the_documentation_loads_whole_and_from_here_only(docs: Tab, suite: Suite, tmp_path: Path) -> None:
    titles = shown_titles(docs)
    assert {"Test Connection", "Refresh Token", "PMS systems"} <= set(titles)
    assert len(titles) > 100
    assert docs.complaints() == []
    assert [url for url in docs.requests() if not url.startswith((suite.urls["auth-gateway"], "about:", "data:"))] == []
    docs.screenshot(tmp_path / "docs.png")
    assert (tmp_path / "docs.png").stat().st_size > 10_000


def test_it_is_searched_by_keyboard_and_the_search_can_be_linked(docs: Tab) -> None:
    everything = len(shown_titles(docs))
    docs.press("/", "/")
    assert docs.evaluate("document.activeElement.id") == "q"
    docs.write("Refresh token")
    assert "Refresh Token" in shown_titles(docs)
    assert len(shown_titles(docs)) < everything / 10
    counted = docs.evaluate("document.getElementById('found').textContent")
    assert int(counted.split(" of ")[0]) >= 1
    docs.open(docs.evaluate("location.href"))
    assert docs.evaluate("document.getElementById('q').value") == "Refresh token"
    assert "Refresh Token" in shown_titles(docs)
    docs.evaluate("document.getElementById('q').focus()")
    docs.press("Escape")
    assert len(shown_titles(docs)) == everything
    docs.evaluate("document.getElementById('q').value = 'peer.timeout'")
    docs.evaluate("document.getElementById('q').dispatchEvent(new Event('input'))")
    assert docs.evaluate("document.getElementById('peertimeout').offsetParent !== null")
    assert docs.complaints() == []


def test_an_operation_opens_by_keyboard_and_by_its_link(docs: Tab) -> None:
    docs.evaluate("document.querySelector('details summary').focus()")
    docs.press("Enter", "\r")
    assert docs.evaluate("document.querySelector('details').open")
    docs.evaluate("location.hash = document.querySelectorAll('details')[20].id")
    docs.evaluate("new Promise(done => setTimeout(done))")
    assert docs.evaluate("document.querySelectorAll('details')[20].open")
    docs.evaluate("document.getElementById('open').click()")
    assert docs.evaluate("[...document.querySelectorAll('details')].every(row => row.open)")


@pytest.mark.parametrize("width", [320, 480, 820, 1600])
def test_no_width_needs_scrolling_sideways(docs: Tab, width: int) -> None:
    docs.width(width)
    docs.evaluate("document.getElementById('open').click()")
    wide = (
        "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
        ".map(e => e.outerHTML.slice(0, 120))"
    )
    assert docs.evaluate(wide) == []
    assert docs.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_everything_has_a_name_for_a_screen_reader(docs: Tab) -> None:
    docs.evaluate("document.getElementById('open').click()")
    nodes = docs.command("Accessibility.getFullAXTree")["nodes"]
    roles: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            name = str(node.get("name", {}).get("value", "")).strip()
            roles.setdefault(str(node["role"]["value"]), []).append(name)
    assert len(roles["main"]) == len(roles["navigation"]) == len(roles["search"]) == 1
    for role in ("link", "button", "searchbox", "heading", "columnheader", "DisclosureTriangle"):
        assert roles[role], role
        assert all(roles[role]), f"a {role} without a name"
    assert len(set(roles["link"])) > 100
    levels = docs.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(e => +e.tagName[1])")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_without_scripts_it_can_still_be_read(tab: Tab, suite: Suite) -> None:
    tab.command("Emulation.setScriptExecutionDisabled", value=True)
    tab.open(docs_url(suite))
    assert "Refresh Token" in shown_titles(tab)
    assert tab.evaluate("document.querySelector('.find').offsetParent") is None


def test_events_reach_a_page_of_an_allowed_origin(tab: Tab, suite: Suite, origin: str) -> None:
    tab.open(origin)
    words = {"api": json.dumps(suite.urls["sync"]), "token": json.dumps(suite.token)}
    told = tab.evaluate(LISTEN % words)
    assert told["status"] == 201
    assert told["requestId"].startswith("req_")  # an exposed header
    assert told["seen"][0] == ["resync", "", {}]
    name, event_id, body = told["seen"][-1]
    assert (name, event_id[:4], body["data"]["state"]) == ("ps.sync.run.finished", "evt_", "finished")
    # EventSource comes back by itself with the ticket it has; that one opened its stream.
    again = f"fetch({words['api']} + '/sync/v1/stream?ticket={told['ticket']}').then(answer => answer.status)"
    assert tab.evaluate(again) == 401


def test_a_page_of_another_origin_gets_nothing(tab: Tab, suite: Suite) -> None:
    ticket = suite.call("POST", "/sync/v1/stream-tickets")["ticket"]
    with page_server() as stranger:
        tab.open(stranger)
        words = {"api": json.dumps(suite.urls["sync"]), "token": json.dumps(suite.token)}
        refused = tab.evaluate(f"({LISTEN % words}).then(() => 'told', error => error.constructor.name)")
        assert refused == "TypeError"
        stream = (
            f"new Promise(done => {{const source = new EventSource({words['api']} + '/sync/v1/stream?ticket={ticket}');"
            "source.onerror = () => done(['refused', source.readyState]); source.addEventListener('resync',"
            "() => done(['told']))})"
        )
        assert tab.evaluate(stream) == ["refused", 2]  # EventSource.CLOSED
