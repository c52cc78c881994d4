from __future__ import annotations

import html.parser
import json
import re
import shutil
import subprocess
from pathlib import Path

import matplotlib.image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affect import report
from affect.errors import AffectError
from affect.report.html import render
from affect.tables import escaped, grid

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NASTY = "<script>alert(1)</script> & | `x` **y** \\ \"q\" ](http://a.b) 'z'"


class Reader(html.parser.HTMLParser):
    """Collects the tags of a page, and the text in each kind of tag."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img"):
            self.open.append(tag)
            self.text.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "tags are closed in order"

    def handle_data(self, data: str) -> None:
        for tag in self.open:
            self.text[tag][-1] += data


def read(markdown: str) -> Reader:
    return Reader(render(markdown, "a page", Path()))


def test_every_kind_of_block() -> None:
    table = grid(["name", "n"], [["a", "1"], ["b", "22"]])
    page = read(
        f"# One\n\n## Two\n\n    run < it\n\nsome **bold** `code`\nwords\n\n{table}\n\n> a **note**\n\n- x\n- y\n"
    )
    assert (page.text["h1"], page.text["h2"]) == (["One"], ["Two"])
    assert page.text["p"] == ["some bold code\nwords", "a note"]
    assert (page.text["strong"], page.text["code"]) == (["bold", "note"], ["run < it\n", "code"])
    assert page.text["td"] == ["a", "1", "b", "22"]
    assert (page.text["li"], page.text["pre"]) == (["x", "y"], ["run < it\n"])
    assert page.open == []


def test_everything_is_escaped() -> None:
    page = read(f"# {escaped(NASTY)}\n\n" + grid(["name", NASTY], [["a", NASTY]]) + f"\n\n    {NASTY}")
    assert page.text["h1"] == [NASTY]
    assert page.text["td"] == ["a", NASTY]
    assert page.text["pre"] == [f"{NASTY}\n"]
    assert not {"script", "a", "strong"} & set(page.tags)
    assert read(f"- **{escaped(NASTY)}**").text["strong"] == [NASTY]


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1).map(lambda s: " ".join(s.split())))
def test_any_name_is_shown_letter_by_letter(name: str) -> None:
    if not name:
        return
    page = read(f"# {escaped(name)}\n\n" + grid(["x", "y"], [["a", name]]))
    assert page.text["h1"] == [name]
    assert page.text["td"][1] == name


def test_a_plot_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(AffectError, match=r"gone\.png cannot be read"):
        render("![x](gone.png)", "x", tmp_path)


@pytest.fixture
def big(tmp_path: Path, write_run) -> Path:
    """Three seeds of five folds of 400 utterances beside another experiment; names that would break a page."""
    for name, shift in (("v1", 0.0), ("v2 <b> & c", 0.03)):
        for seed in (0, 1):
            for fold in range(1, 6):
                test = {"valence": 0.5 + shift + 0.02 * fold, "arousal": 0.6 + 0.01 * seed}
                near = {"ridge": {"valence": 0.3, "arousal": 0.5}}
                write_run(tmp_path / name, fold, test, seed=seed, size=100, epochs=10, baselines=near)
    report.write(tmp_path / "v2 <b> & c", against=Path("v1"), targets={"V": 0.68})
    return tmp_path / "v2 <b> & c" / "report.html"


def test_the_page_is_whole_and_light(big: Path) -> None:
    content = big.read_text(encoding="utf-8")
    assert big.stat().st_size < 1_000_000
    page = Reader(content)
    assert page.text["h1"] == ["v2 <b> & c"]
    assert page.tags.count("img") == len(list(big.parent.glob("plots/*.png"))) == 6
    assert not {"script", "link", "iframe", "a"} & set(page.tags)
    assert "http://" not in content
    assert "https://" not in content
    sources = [value for name, value in page.attributes if name == "src"]
    assert all(value is not None and value.startswith("data:image/png;base64,") for value in sources)
    # The same headings and cells as in the Markdown.
    markdown = big.with_suffix(".md").read_text(encoding="utf-8")
    assert page.text["h2"] == re.findall(r"^## (.*)$", markdown, re.MULTILINE)
    rows = [line for line in markdown.splitlines() if line.startswith("| ") and not re.match(r"\| -+:? ", line)]
    assert page.tags.count("tr") == len(rows)


def browse(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    common = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={profile}"]
    return subprocess.run([*common, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to open the page with")
def test_the_page_in_a_browser(big: Path, tmp_path: Path) -> None:
    found = browse(big, tmp_path / "p1", "--enable-logging=stderr", "--dump-dom")
    assert not [line for line in found.stderr.splitlines() if "CONSOLE" in line]
    dom = Reader(found.stdout)
    assert dom.text["h1"] == ["v2 <b> & c"]
    assert "Ses01" in dom.text["td"]
    shot = tmp_path / "page.png"
    browse(big, tmp_path / "p2", "--window-size=1100,6000", f"--screenshot={shot}", "--hide-scrollbars")
    pixels = matplotlib.image.imread(shot)[..., :3]
    # The bars of the plot of folds are of a colour that the page itself has not.
    bars = abs(pixels - [0x56 / 255, 0xB4 / 255, 0xE9 / 255]).max(axis=-1) < 0.02
    assert bars.sum() > 5000
    assert pixels.std() > 0.05


MEASURE = """<script>addEventListener("load", () => {
  const scrolls = box => box && (getComputedStyle(box).overflowX == "auto" || scrolls(box.parentElement));
  const right = box => box.getBoundingClientRect().right;
  const out = [...document.querySelectorAll("table")].filter(table =>
    right(table.parentElement) > innerWidth || right(table) > innerWidth && !scrolls(table.parentElement));
  document.title = JSON.stringify([innerWidth, document.documentElement.scrollWidth, out.length]);
})</script>"""
"""Writes over a page's title how wide the window and the page are, and how many tables are cut or reach out of it."""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to open the page with")
@pytest.mark.parametrize("style", ["", "<style>.table { overflow: visible }</style>"], ids=["as it is", "boxes undone"])
def test_no_table_reaches_out_of_a_narrow_window(tmp_path: Path, style: str) -> None:
    wide = grid([f"measure {k}" for k in range(30)], [[f"{k}.123" for k in range(30)]])
    long = grid(["flag", "evidence"], [["a" * 20, "words " * 40], ["b", "x" * 300]], left=True)
    page = tmp_path / "page.html"
    # A page's own policy lets no script run.
    whole = render(f"# x\n\n{wide}\n\n{long}\n", "a page", tmp_path).replace("Content-Security-Policy", "none")
    page.write_text(whole + style + MEASURE, encoding="utf-8")
    dom = Reader(browse(page, tmp_path / "p", "--window-size=500,900", "--dump-dom").stdout)
    window, width, out = json.loads(dom.text["title"][0])
    assert window <= 500
    assert (width <= window, out) == ((True, 0) if not style else (False, 1))


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to open the page with")
def test_the_check_of_the_browser_sees_a_fault(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    policy = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">"
    page.write_text(f"<!doctype html>{policy}<img src='http://127.0.0.1:9/x.png'>", encoding="utf-8")
    found = browse(page, tmp_path / "p", "--enable-logging=stderr", "--dump-dom")
    assert [line for line in found.stderr.splitlines() if "CONSOLE" in line]


def test_classes_have_a_page_too(tmp_path: Path, write_run) -> None:
    path = write_run(tmp_path / "a", 1, {"valence": 0.5}, size=60)
    for part in ("test", "valid"):
        file = path / f"predictions-{part}.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for i, row in enumerate(rows):
            row["target"]["emotion"] = ("ang", "hap", "sa|d")[i % 3]
            row["prediction"]["emotion"] = ("ang", "hap", "sa|d")[(i if i % 5 else i + 1) % 3]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = report.write(tmp_path / "a").read_text(encoding="utf-8")
    assert "## Classes" in text
    assert "sa\\|d" in text
    page = Reader((tmp_path / "a" / "report.html").read_text(encoding="utf-8"))
    assert "sa|d" in page.text["th"]


def test_a_narrow_window_shows_long_texts_row_by_row_after_their_columns_names() -> None:
    long = grid(["flag", "evidence & more"], [["a", "words " * 20], ["b", "few"]], left=True)
    page = render(f"{long}\n\n{grid(['fold', 'n'], [['1', '20']])}", "x", Path())
    assert page.count('<table class="rows">') == 1 and page.count("<table>") == 1
    assert '<td data-head="flag">a</td>' in page
    assert page.count('class="wide" data-head="evidence &amp; more"') == 2
    assert "content: attr(data-head)" in page and "@media (max-width: 40rem)" in page
