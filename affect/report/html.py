"""The report as one self-contained HTML page: the Markdown that the report writes, rendered, its plots inside.

It knows the Markdown of these reports and no more: headings, paragraphs, tables, quotes, lists, indented code, images,
and in a line **bold**, `code` and backslash escapes. Everything else is shown letter by letter. The page needs no
script, no network and no other file, and its content policy forbids all three.
"""

from __future__ import annotations

import base64
import re
from html import escape
from pathlib import Path

from affect.errors import AffectError

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

_INLINE = re.compile(r"\\([!-/:-@\[-`{-~])|`([^`]+)`|\*\*((?:\\.|[^\\])+?)\*\*")
_IMAGE = re.compile(r"!\[((?:\\.|[^\]\\])*)\]\(([^)]*)\)")
_CELL = re.compile(r"((?:\\.|[^|\\])*)\|")
_PNG = b"\x89PNG\r\n\x1a\n"
_DENSITY = 130
"""Pixels an inch of the plots."""
_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


def render(markdown: str, title: str, folder: Path) -> str:
    """Return the page of a report in Markdown; its images are read from `folder`.

    Raises AffectError for an image that can't be read.
    """
    # Only line feeds part lines: names may hold the other characters that splitlines() breaks at.
    blocks = [block for block in re.split(r"\n{2,}", markdown.strip("\n")) if block.strip()]
    # The Markdown of a plot names its caption before it too, for readers of plain text.
    twice = {i for i, block in enumerate(blocks[1:]) if (image := _IMAGE.fullmatch(block)) and image[1] == blocks[i]}
    body = "\n".join(_block(block, folder) for i, block in enumerate(blocks) if i not in twice)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n"
        "</html>\n"
    )


def _block(block: str, folder: Path) -> str:
    lines = block.split("\n")
    if heading := re.match(r"(#{1,3}) ", block):
        level = len(heading[1])
        return f"<h{level}>{_inline(block[level + 1 :])}</h{level}>"
    if all(line.startswith("|") for line in lines) and len(lines) > 1:
        return _table(lines)
    if all(line.startswith("    ") for line in lines):
        return f"<pre>{escape(chr(10).join(line[4:] for line in lines))}</pre>"
    if all(line.startswith("> ") for line in lines):
        return f"<blockquote><p>{_inline(' '.join(line[2:] for line in lines))}</p></blockquote>"
    if all(line.startswith("- ") for line in lines):
        return "<ul>\n" + "\n".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "\n</ul>"
    if image := _IMAGE.fullmatch(block):
        return _figure(image[1], folder / image[2])
    return f"<p>{_inline(' '.join(lines))}</p>"


def _table(lines: list[str]) -> str:
    head, rule, *rows = ([cell.strip() for cell in _CELL.findall(line[1:])] for line in lines)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(head)
    kinds = [
        ' class="right"' if side.endswith(":") else ' class="wide"' if any(len(c) > _WIDE for c in column) else ""
        for side, column in zip(rule, columns, strict=True)
    ]

    def row(cells: list[str], tag: str) -> str:
        shown = (f"<{tag}{kind}>{_inline(c)}</{tag}>" for c, kind in zip(cells, kinds, strict=True))
        return f"<tr>{''.join(shown)}</tr>"

    body = "\n".join(row(cells, "td") for cells in rows)
    # Focusable, so that a wide table can be scrolled by keyboard too.
    return (
        '<div class="table" tabindex="0" role="region" aria-label="table">\n<table>\n'
        f"<thead>{row(head, 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def _figure(caption: str, path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AffectError(f"the plot {str(path)!r} can't be read: {error.strerror or error}") from error
    coded = base64.b64encode(content).decode("ascii")
    words = _inline(caption)
    alternative = escape(re.sub(r"\\(.)", r"\1", caption))
    source = f"data:{_TYPES[path.suffix]};base64,{coded}"
    image = f'<img alt="{alternative}"{_size(content)} src="{source}">'
    return f"<figure>\n<figcaption>{words}</figcaption>\n{image}\n</figure>"


def _size(content: bytes) -> str:
    """Return the size that a PNG is shown at, so that letters are as large in all plots: 96 pixels an inch."""
    if content[:8] != _PNG:
        return ""
    width, height = (round(int.from_bytes(content[at : at + 4], "big") * 96 / _DENSITY) for at in (16, 20))
    return f' width="{width}" height="{height}"'


def _inline(text: str) -> str:
    """Return a line of Markdown in HTML, everything escaped."""
    parts, at = [], 0
    for match in _INLINE.finditer(text):
        parts.append(escape(text[at : match.start()]))
        letter, code, bold = match.groups()
        if letter is not None:
            parts.append(escape(letter))
        elif code is not None:
            parts.append(f"<code>{escape(code)}</code>")
        else:
            parts.append(f"<strong>{_inline(bold)}</strong>")
        at = match.end()
    return "".join([*parts, escape(text[at:])])
