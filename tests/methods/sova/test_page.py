"""The page of the graph: whole in itself, every text escaped, and alive in a real browser."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import pytest
from methods.sova.graph_parts import TABLE, TEXTS

from zoo.methods.sova.index import ValueIndex
from zoo.methods.sova.page import in_script, page, write_graph_page
from zoo.records import PrincipleText

ATTACK = (
    'Be kind. </script><script>document.title = "owned"</script>'
    "<img src=x onerror=\"document.title = 'owned'\"> &lt;b&gt; \u2028 honesty ]]> <!-- <script>"
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> ValueIndex:
    texts = [*TEXTS, PrincipleText(ATTACK, "a stranger", "own.csv:9")]
    return ValueIndex.build(tmp_path_factory.mktemp("index") / "made", TABLE, texts)


class Elements(HTMLParser):
    """Counts elements and keeps what stands in scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script" and data.strip():
            self.scripts.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def test_texts_are_escaped_and_nodes_drawn(index: ValueIndex) -> None:
    found = Elements(page(index))
    assert found.count("script") == 2
    assert found.count("img") == 0
    assert found.count("circle") == len(index.graph)
    assert found.count("line") == index.graph.size()
    data = json.loads(found.scripts[0])
    assert any(" ".join(ATTACK.split()) == node["text"] for node in data["nodes"])
    assert len(data["reports"]) == len(index.reports)
    labels = sorted(node["label"] for node in data["nodes"] if node["kind"] == "principle")
    assert labels == sorted(f"{p.theory}: {p.label}" if p.theory else "" for p in index.principles)


def test_the_page_refers_to_nothing_outside(index: ValueIndex) -> None:
    text = page(index)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<link|<iframe", text)
    assert not {"src", "href", "srcset", "action"} & {
        name for _, attributes in Elements(text).tags for name in attributes
    }
    assert "default-src 'none'" in text
    assert not re.search("innerHTML|eval|document.write|fetch|XMLHttpRequest", text)


def test_the_page_runs_its_own_script_alone(index: ValueIndex) -> None:
    """It stands there whole, and the page's policy names its digest."""
    script = resources.files("zoo.methods.sova").joinpath("page.js").read_text("utf-8")
    text = page(index)
    assert f"<script>{script}</script>" in text
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in text


def test_json_cannot_end_its_script() -> None:
    value = ["</script>", "<!--", "&amp;", "\u2028", 'a "quote" \\']
    assert not set("<>&\u2028") & set(in_script(value))
    assert json.loads(in_script(value)) == value


def test_the_same_index_gives_the_same_page(index: ValueIndex, tmp_path: Path) -> None:
    size = write_graph_page(index, tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == page(index)
    assert size == (tmp_path / "a.html").stat().st_size


def dom(path: Path, query: str, tmp_path: Path) -> str:
    """Open a page in a headless browser; return what it then holds."""
    assert BROWSER
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
    quiet = ("--no-first-run", "--disable-background-networking", "--disable-sync")
    folder = (f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={tmp_path / 'net.json'}")
    done = subprocess.run(
        [BROWSER, *options, *quiet, *folder, "--dump-dom", f"{path.as_uri()}#q={query}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def hosts_asked(tmp_path: Path) -> set[str]:
    """Return the hosts in the browser's log of requests, those that it asks for itself left out."""
    log = (tmp_path / "net.json").read_text(encoding="utf-8")
    hosts = set(re.findall(r'"url":"(?:https?|wss?)://([^"/:]*)', log))
    return {host for host in hosts if not host.endswith((".google.com", ".googleapis.com"))}


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_search_finds_a_principle_in_a_browser(index: ValueIndex, tmp_path: Path) -> None:
    write_graph_page(index, tmp_path / "page.html")
    text = dom(tmp_path / "page.html", "Put%20honesty", tmp_path)
    assert text.count("<circle") == len(index.graph)
    assert "1 found" in text
    results = text.partition('id="results">')[2].partition("</ul>")[0]
    assert "Put  HONESTY above loyalty" not in results
    assert re.search(
        r"<button>Put honesty above loyalty|<button>Put HONESTY above loyalty", results
    )
    assert len(re.findall(r'<circle[^>]*class="hit"', text)) == 1


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_search_finds_the_principles_of_a_label(index: ValueIndex, tmp_path: Path) -> None:
    write_graph_page(index, tmp_path / "page.html")
    text = dom(tmp_path / "page.html", "maslow:%20safety", tmp_path)
    mine = [p for p in index.principles if (p.theory, p.label) == ("maslow", "safety")]
    assert len(mine) > 2
    assert f"{len(mine)} found" in text
    assert text.count('<span class="kind">principle, maslow: safety</span>') == len(mine)
    assert len(re.findall(r'<circle[^>]*class="hit"', text)) == len(mine)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_runs_no_text_and_asks_nobody(index: ValueIndex, tmp_path: Path) -> None:
    write_graph_page(index, tmp_path / "page.html")
    text = dom(tmp_path / "page.html", "Be%20kind", tmp_path)
    title = text.partition("<title>")[2].partition("</title>")[0]
    assert "owned" not in title
    assert "<img" not in text.partition('id="data"')[0] + text.partition('id="results"')[2]
    results = text.partition('id="results">')[2].partition("</ul>")[0]
    assert html.escape("</script><script>", quote=False) in results
    assert hosts_asked(tmp_path) == set()


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_log_would_show_a_request(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text('<img src="http://example.invalid/x.png">')
    dom(tmp_path / "page.html", "", tmp_path)
    assert hosts_asked(tmp_path) == {"example.invalid"}
