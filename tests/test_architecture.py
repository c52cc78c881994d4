"""The layers of docs/architecture.md: imports run one way, and each library is named where it belongs."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
AFFECT = sorted((ROOT / "affect").rglob("*.py"))
RECIPES = sorted((ROOT / "recipes").glob("*.py"))

FOUNDATION = {"affect", "errors", "config", "usage", "task", "recipe", "options", "extraction", "process", "checksums",
              "findings", "tables", "definitions"}  # fmt: skip
"""Rooms that say what things are; everybody may import them. They import one another alone."""

MAY = {
    "errors": set(),
    "config": {"errors"},
    "usage": set(),
    "keyed": set(),
    "recipe": {"config", "errors"},
    # What a default of the base class needs, inside of functions.
    "task": {"recipe", "usage", "errors", "keyed", "metrics", "models"},
    "options": {"recipe", "errors"},
    "definitions": {"recipe", "errors"},
    "extraction": {"recipe", "errors"},
    "frozen": set(),
    "coverage": {"errors"},
    "process": set(),
    "findings": set(),
    "tables": set(),
    "figures": {"findings"},
    "progress": {"tables"},
    "checksums": set(),
    "archive": {"errors"},
    "cache": {"errors"},
    "losses": {"task", "errors"},
    "metrics": {"task", "errors"},
    "models": {"task", "frozen", "coverage", "keyed", "config", "errors", "checksums"},
    "data": {"task", "config", "errors", "archive", "cache", "tables", "progress"},
    "baselines": {"errors", "metrics"},
    "registry": {"task", "recipe", "errors", "models"},
    "report": {"task", "findings", "tables", "figures", "archive", "errors", "metrics", "recipe", "registry"},
    "hub": {"task", "usage", "recipe", "errors", "registry", "report", "models", "checksums", "tables", "data"},
    "training": {
        *(
            "task",
            "frozen",
            "coverage",
            "keyed",
            "recipe",
            "config",
            "errors",
            "options",
            "process",
            "checksums",
            "archive",
            "cache",
            "tables",
        ),
    },
    "inference": {
        *("task", "usage", "recipe", "errors", "extraction", "registry", "hub", "models", "data", "training"),
    },
    "tasks": {
        *("task", "usage", "config", "recipe", "errors", "registry", "inference", "findings", "tables", "figures"),
        *("cache", "data", "models", "keyed", "losses", "metrics", "baselines", "progress"),
    },
    "experiments": {
        *("task", "recipe", "errors", "options", "definitions", "extraction", "registry", "inference", "training"),
        *("report", "data", "models", "metrics", "hub", "process", "tables", "findings", "figures", "progress"),
    },
    "launcher": {"errors", "process"},
    "front": {
        *("usage", "recipe", "errors", "options", "definitions", "registry", "inference", "experiments", "hub", "data"),
    },
    "cli": {
        "cache",
        *("usage", "recipe", "errors", "options", "definitions", "extraction", "process", "registry", "inference"),
        *("experiments", "report", "training", "data", "models", "hub", "launcher"),
    },
}
"""What each room of affect/ may import, beside itself."""

TYPES_ALONE = {"task": {"metrics", "models"}}
"""What rooms below name inside functions alone, so that it makes no circle when they are imported."""

HEAVY = {"torch", "transformers", "datasets", "accelerate", "sklearn", "scipy", "matplotlib", "safetensors"}
ENGINES = {"accelerate", "deepspeed"}


@cache
def imports(path: Path, top_only: bool = False) -> frozenset[str]:
    """Return the dotted names that a file imports, at the top alone or inside functions too.

    Imports for type checking alone do not count: they never run.
    """
    found: set[str] = set()

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if not (inside and top_only):
            if isinstance(node, ast.Import):
                found.update(item.name for item in node.names)
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are absolute"
                found.update({str(node.module), *(f"{node.module}.{item.name}" for item in node.names)})
        inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(path.read_text(encoding="utf-8")), False)
    return frozenset(found)


def room(path: Path) -> str:
    """Return the room of affect/ that a file is in: its first folder, or its own name at the top.

    The registry, which finds the tasks by name, and the definitions of experiments are rooms below those that they
    stand on.
    """
    if path == ROOT / "affect" / "tasks" / "__init__.py":
        return "registry"
    if path in (ROOT / "affect/experiments/definitions.py", ROOT / "affect/experiments/__init__.py"):
        return "definitions"
    first = path.relative_to(ROOT / "affect").parts[0]
    return "affect" if first == "__init__.py" else first.removesuffix(".py")


def rooms(path: Path, top_only: bool = False) -> set[str]:
    """Return the rooms of affect/ that a file imports."""
    names = {_room_of(name) for name in imports(path, top_only) if name.startswith("affect.")}
    known = {room(other) for other in AFFECT}
    assert names <= known, f"{path} imports {names - known} from affect"
    return names


def _room_of(name: str) -> str:
    """Return the room of a dotted name; what is directly in affect.tasks, and no file there, is the registry's."""
    first, *rest = name.split(".")[1:]
    if first == "experiments" and (not rest or rest[0] in ("definitions", "Ensemble", "Search", "Sequence", "Suite")):
        return "definitions"
    inside = ROOT / "affect" / "tasks" / (rest[0] if rest else "")
    is_file = bool(rest) and (inside.is_dir() or inside.with_suffix(".py").is_file())
    return "registry" if first == "tasks" and not is_file else first


def libraries(path: Path, top_only: bool = False) -> set[str]:
    return {name.split(".")[0] for name in imports(path, top_only)}


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_walk_sees_imports():
    assert {"affect.task", "torch"} <= imports(ROOT / "affect/training/step.py")
    assert rooms(ROOT / "affect/training/run.py") == {"errors", "recipe", "tables", "task", "training"}
    assert len(AFFECT) > 40
    assert "training" in rooms(ROOT / "affect/experiments/folds.py")
    assert "experiments" in rooms(ROOT / "affect/cli/main.py"), "imports inside functions count"
    assert "experiments" not in rooms(ROOT / "affect/cli/main.py", top_only=True)


@pytest.mark.parametrize("path", AFFECT, ids=label)
def test_imports_run_one_way(path):
    mine = room(path)
    if mine == "affect":
        # Importing the package loads nothing: its functions go through the front door.
        assert rooms(path, top_only=True) == set()
        assert rooms(path) == {"front"}
        return
    assert mine in MAY, f"a new room: say in MAY what {mine} may import"
    assert rooms(path) <= MAY[mine] | {mine}


def test_no_two_rooms_import_each_other():
    order: list[str] = []
    left = {name: needs - TYPES_ALONE.get(name, set()) for name, needs in MAY.items()}
    while left:
        free = [name for name, needs in left.items() if not needs - set(order)]
        assert free, f"a circle among {sorted(left)}"
        order += free
        for name in free:
            del left[name]


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_two_files_import_each_other():
    """Not inside functions either."""
    files = {module(path): path for path in AFFECT}

    def needs(path: Path) -> set[str]:
        found = {name for name in imports(path) if name in files}
        # `from package import file` names the package, too, of which it wants nothing.
        through = {name.rpartition(".")[0] for name in found}
        wanted = {name.rpartition(".")[0] for name in imports(path) - found}
        return found - (through - wanted)

    names = {name: needs(path) for name, path in files.items()}
    assert [(a, b) for a in names for b in names[a] if a < b and a in names[b]] == []


@pytest.mark.parametrize("path", [*AFFECT, *RECIPES], ids=label)
def test_the_engines_are_named_in_one_file(path):
    if not label(path).startswith("affect/training/distributed/") and label(path) != "affect/launcher.py":
        assert not libraries(path) & ENGINES


@pytest.mark.parametrize("path", [p for p in AFFECT if room(p) == "training"], ids=label)
def test_training_names_no_concrete_task(path):
    text = path.read_text(encoding="utf-8").lower()
    for name in ("affect.tasks", "arousal", "iemocap", "wavlm_", "diarization"):
        assert name not in text


GENERIC = [p for p in AFFECT if room(p) in ("front", "hub", "inference", "cli", "report", "training", "experiments")]


@pytest.mark.parametrize("path", [*GENERIC, ROOT / "affect/models/saving.py"], ids=label)
def test_rooms_that_ask_the_task_name_none(path):
    text = path.read_text(encoding="utf-8").lower()
    assert [word for word in ("multimodal", "valence", "emotion") if word in text] == []


@pytest.mark.parametrize(
    "name",
    [
        "affect/config.py",
        "affect/usage.py",
        "affect/recipe.py",
        "affect/options.py",
        "affect/errors.py",
        "affect/cli/main.py",
        "affect/experiments/definitions.py",
        "affect/extraction.py",
        "affect/cli/terminal.py",
        "affect/cli/arguments.py",
    ],
)
def test_what_help_needs_loads_nothing_heavy(name):
    assert not libraries(ROOT / name, top_only=True) & HEAVY
    assert rooms(ROOT / name, top_only=True) <= FOUNDATION | {"cli"}


LAYOUTS = {"affect.data", "affect.data.corpora", "affect.data.corpora.layout", "affect.data.corpora.layout.Layout",
           "affect.data.simulation", "affect.data.simulation.Simulation"}  # fmt: skip


@pytest.mark.parametrize("path", [p for p in AFFECT if p.name == "config.py" and room(p) == "tasks"], ids=label)
def test_recipes_of_tasks_load_nothing_heavy(path):
    assert not libraries(path, top_only=True) & HEAVY
    # What corpora there are, which costs no library (tests/data/corpora/test_layouts.py).
    assert rooms(path) <= {"config", "recipe", "errors", "tasks", "data"}
    assert {name for name in imports(path) if name.startswith("affect.data")} <= LAYOUTS


def reached(path: Path) -> set[str]:
    """Return the libraries that importing a file of affect/ imports, through whatever files."""
    found: set[str] = set()
    seen: set[Path] = set()
    left = [path]
    while left:
        here = left.pop()
        if here in seen:
            continue
        seen.add(here)
        found |= libraries(here, top_only=True)
        for name in imports(here, top_only=True):
            place = ROOT.joinpath(*name.split("."))
            left += [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
    return found


TASK_MODELS = [
    ROOT / "affect/tasks/emotion/model.py",
    ROOT / "affect/tasks/multimodal_emotion/models/__init__.py",
    ROOT / "affect/tasks/talking_face/model.py",
    ROOT / "affect/tasks/diarization/models/__init__.py",
]


@pytest.mark.parametrize("path", TASK_MODELS, ids=label)
def test_a_model_loads_transformers_only_where_an_encoder_is_read(path):
    """Its import takes longer than a small model's whole start, on each rank."""
    assert "torch" in reached(path)
    assert not reached(path) & {"transformers", "peft", "datasets", "accelerate"}


@pytest.mark.parametrize("path", [p for p in AFFECT if room(p) == "report"], ids=label)
def test_the_report_names_no_task(path):
    text = path.read_text(encoding="utf-8").lower()
    for name in ("multimodal", "valence", "arousal", "emoval", "ccc", "audio", "video", "diarization"):
        assert name not in text


FORBIDDEN = (ast.If, ast.For, ast.While, ast.IfExp, ast.Try, ast.Match, ast.comprehension, ast.With, ast.ClassDef)


@pytest.mark.parametrize("path", RECIPES, ids=label)
def test_recipes_choose_and_affect_does(path):
    """No branch, loop or tensor in a recipe file, the guard at its end apart."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    *body, last = tree.body
    assert isinstance(last, ast.If)
    assert ast.unparse(last.test) == "__name__ == '__main__'"
    found = [type(node).__name__ for part in body for node in ast.walk(part) if isinstance(node, FORBIDDEN)]
    assert found == []
    assert libraries(path) <= {"__future__", "dataclasses", "pathlib", "affect"}
    assert rooms(path) <= {"cli", "recipe", "tasks", "definitions", "extraction"}
    for node in body:
        if isinstance(node, ast.FunctionDef):
            assert ast.get_docstring(node), f"{node.name} says what it is, costs and reached"
            assert node.returns is not None


@pytest.mark.parametrize("path", AFFECT, ids=label)
def test_files_and_functions_stay_small(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 500
    assert path.name != "utils.py"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 60, node.name
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}: a bare except"


DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *(ROOT / "docs").glob("*.md"),
    *RECIPES,
    ROOT / "recipes/README.md",
]


@pytest.mark.parametrize("path", DOCUMENTS, ids=label)
def test_no_number_is_still_to_be_filled_in(path):
    assert not re.findall(r"@[A-Z_]+@", path.read_text(encoding="utf-8"))


def test_the_table_of_recipes_names_every_experiment():
    from tests.launching import experiments

    text = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    assert [name for name in experiments() if f"`{name}`" not in text] == []


VAGUE = {"found", "known", "said", "mine"}


def bound(path: Path) -> set[str]:
    """Return the names that a file binds: variables, of loops and comprehensions too, and arguments."""
    nodes = [*ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    names = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return names | {node.arg for node in nodes if isinstance(node, ast.arg)}


@pytest.mark.parametrize("path", AFFECT, ids=label)
def test_locals_are_named_for_what_they_hold(path):
    assert bound(path) & VAGUE == set()


def test_the_walk_sees_every_kind_of_local(tmp_path):
    file = tmp_path / "vague.py"
    file.write_text("def f(found):\n    if known := [said for said in found]:\n        mine = known\n")
    assert bound(file) & VAGUE == VAGUE
