"""The report as one self-contained HTML page: its Markdown rendered by markdown-it, its plots inside.

Of Markdown only what reports write is understood: headings, paragraphs, tables, quotes, lists, indented code, images,
and in a line bold, `code` and backslash escapes. No markup of a name is: no link, no HTML. The page needs no script,
no network and no other file, and its content policy forbids all three.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from affect.errors import reading

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --dim: #59636e; --paper: #fff; --line: #d1d9e0; --head: #f4f6f8;
  --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ec; --dim: #a3adb8; --paper: #15191e; --line: #3a434d;
  --head: #1f252c; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 66rem; background: var(--paper); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: .5rem 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.25rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
p, li { max-width: 46rem; overflow-wrap: break-word; }
.table { overflow-x: auto; margin: .75rem 0 1rem; border: 1px solid var(--line); border-radius: 6px; }
.table:focus-visible { outline: 2px solid var(--accent); }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { background: var(--head); white-space: nowrap; font-weight: 600; }
tr:last-child td { border-bottom: 0; }
.right { text-align: right; white-space: nowrap; }
td { white-space: nowrap; }
td.wide { min-width: 16rem; white-space: normal; overflow-wrap: anywhere; }
td:first-child, th:first-child { position: sticky; left: 0; background: var(--paper); }
th:first-child { background: var(--head); }
@media (max-width: 40rem) {
  body { padding: .75rem .75rem 3rem; font-size: 15px; }
  table { font-size: .8rem; }
  th, td, .right { padding: .3rem .35rem; white-space: normal; }
  .rows thead { position: absolute; clip-path: inset(50%); }
  .rows, .rows tbody, .rows tr, .rows td { display: block; width: 100%; min-width: 0; }
  .rows tr { padding: .4rem 0; border-bottom: 1px solid var(--line); }
  .rows tr:last-child { border-bottom: 0; }
  .rows td { position: static; padding: .1rem .6rem; border: 0; text-align: left; white-space: normal;
    overflow-wrap: anywhere; }
  .rows td::before { content: attr(data-head) ": "; color: var(--dim); }
  .rows td:first-child { font-weight: 600; } }
blockquote { margin: 1rem 0; padding: .25rem 1rem; border-left: 4px solid #e69f00; background: var(--head); }
pre { overflow-x: auto; padding: .75rem 1rem; background: var(--head); border-radius: 6px; }
code, pre { font: .875rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
figure { margin: 1.25rem 0; }
figcaption { color: var(--dim); font-size: .9rem; margin-bottom: .4rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; display: block; }
@media print { body { max-width: none; } .table { overflow: visible; } h2, figcaption { break-after: avoid; }
  figure, tr { break-inside: avoid; } }
"""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_WIDE = 40
"""A column that holds longer cells than this may wrap."""

_RULES = ("heading", "table", "blockquote", "list", "code", "image", "backticks", "emphasis", "escape")
_DENSITY = 130
"""Pixels an inch of the plots."""


def render(markdown: str, title: str, folder: Path) -> str:
    """Return the page of a report in Markdown; its images are read from `folder`.

    Raises AffectError for an image that can't be read.
    """
    reader = MarkdownIt("zero").enable(_RULES)
    reader.add_render_rule("table_open", _open)
    reader.add_render_rule("table_close", lambda *_: "</table>\n</div>\n")
    tokens = reader.parse(markdown)
    _figures(tokens, folder)
    _columns(tokens)
    body = reader.renderer.render(tokens, reader.options, {})
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n"
        "</html>\n"
    )


def _figures(tokens: list[Token], folder: Path) -> None:
    """Make each paragraph that is an image a figure; the paragraph before it, which is its caption, goes into it."""
    for i, token in enumerate(tokens):
        if token.type == "inline" and token.children and token.children[0].type == "image":
            image = token.children[0]
            figure = _figure(image, folder / str(image.attrs["src"]))
            tokens[i - 4 : i + 2] = [_raw(figure), *(_raw("") for _ in range(5))]


def _figure(token: Token, path: Path) -> str:
    with reading(path):
        content = path.read_bytes()
    words = escape("".join(child.content for child in token.children or []))
    # Letters as large in all plots, at 96 pixels an inch: the size is in a PNG's header.
    width, height = (round(int.from_bytes(content[at : at + 4], "big") * 96 / _DENSITY) for at in (16, 20))
    source = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
    image = f'<img alt="{words}" width="{width}" height="{height}" src="{source}">'
    return f"<figure>\n<figcaption>{words}</figcaption>\n{image}\n</figure>\n"


def _open(renderer: object, tokens: Sequence[Token], index: int, options: object, env: object) -> str:
    """Return what opens a table: a box that a keyboard can scroll, too, and how a narrow window shows it."""
    kind = tokens[index].attrs.get("class")
    shown = f' class="{kind}"' if kind else ""
    return f'<div class="table" tabindex="0" role="region" aria-label="table">\n<table{shown}>\n'


def _columns(tokens: Sequence[Token]) -> None:
    """Give the cells of tables their classes: numbers to the right, columns of long texts may wrap.

    A table with such a column is shown row by row where the window is narrow, each cell after its column's name.
    """
    columns: dict[tuple[int, int], list[tuple[Token, str]]] = {}
    tables: list[Token] = []
    place = 0
    for cell, inner in pairwise(tokens):
        if cell.type == "table_open":
            tables.append(cell)
        elif cell.type == "tr_open":
            place = 0
        elif cell.type in ("th_open", "td_open"):
            words = "".join(child.content for child in inner.children or ())
            columns.setdefault((len(tables) - 1, place), []).append((cell, words))
            place += 1
    for (table, _), column in columns.items():
        wide = any(len(content) > _WIDE for cell, content in column if cell.type == "td_open")
        if wide:
            tables[table].attrs["class"] = "rows"
        for cell, _ in column:
            right = cell.attrs.pop("style", "") == "text-align:right"
            if right or wide:
                cell.attrs["class"] = "right" if right else "wide"
            if cell.type == "td_open":
                cell.attrs["data-head"] = column[0][1]


def _raw(content: str) -> Token:
    return Token("html_block", "", 0, content=content)
