"""EmoBank: English sentences of several genres, rated for valence, arousal and dominance on 1..5. Text alone.

One file, `emobank.csv` (in the folder itself or in its folder `corpus`), with the columns `id, split, V, A, D, text`
and the parts train, dev and test. An id is `<document>_<first character>_<last character>`, or `SemEval_<number>` for
a headline, which has no document around it.

The official parts share documents: a sentence's neighbours can be on the other side. In the release without the test
rows (8,062 train, 1,000 dev) 882 of the dev sentences come from documents that training also has (120 of the 135,
headlines apart), and 20 texts ("Sincerely,") are in both parts. So a split by its column needs `allow_shared`,
and measures new sentences, not new documents. Buechel and Hahn 2017, "EmoBank", EACL.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from affect.data.corpora.labels import UnusableError, label, labelled, rows_of
from affect.data.corpora.layout import Layout
from affect.data.corpora.utterances import Row, corpus_of_rows, without_repeats
from affect.data.corpus import Corpus
from affect.data.table_file import Cells, read_csv

SCALE = (1.0, 5.0)
COLUMNS = {"valence": "V", "arousal": "A", "dominance": "D"}
"""The file's column of each label."""

_LOG = logging.getLogger("affect")
_REQUIRED = ("id", "split", *COLUMNS.values(), "text")
_SPLITS = ("train", "dev", "test")
_SENTENCE = re.compile(r"^(.+)_\d+_\d+$")
_HEADLINE = re.compile(r"SemEval_\d+$")


def read(root: str | Path) -> Corpus:
    """Return every sentence with its text as `transcript`; there is no audio: `path` is "" and `duration` NaN.

    `dialogue` is the document (a headline's is its own id), `session` the document or "SemEval"; speakers are
    unknown. Where the file has no test rows, dev becomes the test part, and about a tenth of the training rows,
    whole documents chosen by a hash of their names, validate; this is logged. A sentence without an id, text, known
    part or sound label is excluded. Raises AffectError where the file or a column is missing or nothing is left.
    """
    table = _table(CORPUS.find(root))
    rows, exclusions = rows_of(read_csv(table, _REQUIRED)[1], _row, "id", table)
    kept, repeated = without_repeats(rows)
    return corpus_of_rows(CORPUS, _with_test(kept, table), [*exclusions, *repeated], root=root)


def _table(folder: Path) -> Path:
    own = folder / "emobank.csv"
    return own if own.is_file() else folder / "corpus" / "emobank.csv"


def _row(cells: Cells) -> Row:
    """Return a row; raises UnusableError."""
    name, split, text = (cells[column] for column in ("id", "split", "text"))
    if not name:
        raise UnusableError("no id")
    if not text:
        raise UnusableError("no text")
    if split.lower() not in _SPLITS:
        raise UnusableError(f"unknown part: {split[:40]!r}")
    labels = {name: label(name, cells[column], SCALE) for name, column in COLUMNS.items()}
    labelled(labels)
    document = _SENTENCE.sub(r"\1", name)
    session = "SemEval" if _HEADLINE.match(name) else document
    return {
        "id": name, "split": split.lower(), "transcript": text, "dialogue": document, "session": session, **labels
    }  # fmt: skip


def _with_test(rows: Sequence[Row], table: Path) -> list[Row]:
    """Return the rows as they are, or, where none is of the test part, with dev tested and documents validating."""
    parts = Counter(row["split"] for row in rows)
    if parts["test"] or not parts["dev"]:
        return list(rows)
    chosen = _validating([row["dialogue"] for row in rows if row["split"] == "train"])

    def part(row: Row) -> str:
        return "test" if row["split"] == "dev" else "valid" if row["dialogue"] in chosen else "train"

    changed = [{**row, "split": part(row)} for row in rows]
    count = sum(row["split"] == "valid" for row in changed)
    _LOG.warning(
        "emobank: %s has no test rows, so its %d dev rows are tested, and %d of its %d train rows (%d whole documents) "
        "validate", table.name, parts["dev"], count, parts["train"], len(chosen)
    )  # fmt: skip
    return changed


def _validating(documents: Sequence[str]) -> set[str]:
    """Return the documents that validate, of each row's: in the order of a hash, those that fit into a tenth.

    None may be more than a quarter of it, or one novel would decide. Where none fits, the smallest validates, unless
    it is the only one.
    """
    sizes = Counter(documents)
    order = sorted(sizes, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    tenth = len(documents) // 10
    chosen: set[str] = set()
    left = tenth
    for name in order:
        if sizes[name] <= min(left, tenth / 4):
            chosen.add(name)
            left -= sizes[name]
    return chosen or ({min(order, key=lambda name: sizes[name])} if len(order) > 1 else set())


CORPUS = Layout(
    name="emobank",
    read=read,
    columns=("session", "dialogue", "valence", "arousal", "dominance", "transcript", "split"),
    holds=lambda folder: _table(folder).is_file(),
    sign="emobank.csv or corpus/emobank.csv",
    scale=SCALE,
    has_audio=False,
    language="en",
    about="EmoBank is English from news, letters, fiction and the web.",
    licence="CC BY-SA 4.0",
    citation="Buechel and Hahn 2017, EmoBank, EACL",
)
