"""Each corpus is known to its own file alone, and asking it costs little."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from iemocap_tree import write_tree

from affect.data import corpora
from affect.data.corpora.layout import Layout
from affect.errors import AffectError

ROOT = Path(__file__).parents[3] / "affect"
ALL = corpora.ALL
WORDS = ("hub", "synthetic", "generated", "score_folder", "score_table", "generated_scores", "generated_clips")
"""Names that are words, too, or that help explains: counted where code has them as they stand, not in a text."""
BUILT_ON = {"synthetic": "iemocap", "generated": "mer2023", "generated_scores": "score_folder",
            "generated_clips": "score_table"}  # fmt: skip
"""Generated corpora, and the layout in which they are written."""


def named(path: Path, name: str) -> list[int]:
    """Return the lines on which a file names a corpus."""
    text = path.read_text(encoding="utf-8")
    if name not in WORDS:
        return [k for k, line in enumerate(text.splitlines(), start=1) if re.search(rf"\b{name}\b", line)]
    nodes = ast.walk(ast.parse(text))
    return [node.lineno for node in nodes if isinstance(node, ast.Constant) and node.value == name]


@pytest.mark.parametrize("name", [name for name in ALL if name != "generated"])
def test_a_corpus_is_named_in_its_own_file_alone(name):
    listed = ROOT / "data" / "corpora" / "__init__.py"
    own = ROOT.parent / (ALL[name].replace(".", "/") + ".py")
    built = {ROOT.parent / (ALL[other].replace(".", "/") + ".py") for other, base in BUILT_ON.items() if base == name}
    found = {path: named(path, name) for path in ROOT.rglob("*.py") if path not in {listed, own, *built}}
    assert {str(path): lines for path, lines in found.items() if lines} == {}
    assert named(own, name) and named(listed, name)


@pytest.mark.parametrize("name", ALL)
def test_a_layout_says_what_it_is(name):
    layout = corpora.layout(name)
    assert isinstance(layout, Layout) and layout.name == name
    assert (layout.holds is None) == layout.generated and bool(layout.sign) == (layout.holds is not None)
    if not layout.generated:
        assert layout.about.endswith(".") and (layout.language is None) == (layout.scale is None)
        assert bool(layout.licence) == bool(layout.citation) == (layout.scale is not None)
    if layout.kind is corpora.FEATURES:
        assert set(layout.usual) == {"audio", "text", "video"}


def filled(corpus) -> set[str]:
    """Return the columns of which some row has a value, but those that every corpus has or that are measured."""
    rows = corpus.utterances.to_pandas()
    there = {name for name in rows if (rows[name].notna() & (rows[name] != "")).any()}
    return there - {"id", "path", "digest", "duration"}


def test_columns_are_those_that_rows_fill(tmp_path, real_data, cache):
    roots = {"emodb": real_data / "emodb", "emobank": real_data / "emobank"}
    roots |= {"iemocap": write_tree(tmp_path / "i"), "synthetic": tmp_path / "s"}
    for name, root in roots.items():
        options = {"dialogues": 1, "utterances": 2} if name == "synthetic" else {}
        corpus = corpora.read(corpora.UTTERANCES, name, root, **options)
        assert filled(corpus) == set(corpora.layout(name).columns), name


def test_asking_a_layout_loads_no_heavy_library():
    code = (
        "import sys\nfrom affect.data import corpora\n"
        "for name in corpora.ALL: corpora.layout(name)\n"
        "print(sorted({'torch', 'datasets', 'numpy', 'pyarrow', 'scipy', 'soundfile', 'tqdm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def test_names_that_are_not_there():
    with pytest.raises(AffectError, match="unknown corpus 'iemocpa': did you mean 'iemocap'"):
        corpora.layout("iemocpa")
    with pytest.raises(AffectError, match="is of recordings or texts"):
        corpora.read(corpora.FEATURES, "emodb", ".")


def test_options_of_another_corpus_are_refused():
    defaults = {"scale": None, "limit": None, "dialogues": 4, "root": "."}
    corpora.check_options("csv_folder", {"scale": (1, 7), "dialogues": 4, "root": "x"}, defaults)
    with pytest.raises(AffectError, match="data.scale must be left out unless corpus is csv_folder or hub"):
        corpora.check_options("iemocap", {"scale": (1, 7)}, defaults)
    corpora.check_options("iemocap", {"dialogues": 5}, defaults)
    corpora.check_options("mer2023", {"audio": ("x",)}, {"audio": None})
    assert corpora.known("iemocap") is corpora.layout("iemocap") and corpora.known("iemocap@1") is None
