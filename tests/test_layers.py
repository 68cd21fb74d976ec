"""How the code lies: imports that go one way and in no circle, and folders, files and functions of a readable size."""

import ast
import re
import sys
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("data", "indexer", "classify")  # each imports only those before it; all else imports any
MOST_MODULES, MOST_LINES, MOST_LINES_OF_A_FUNCTION = 16, 400, 50


def _modules():
    """Every module of the package and of the benchmarks by its dotted name, a folder's __init__ by the folder's."""
    places = {"knnvote": ROOT / "src/knnvote", "bench": ROOT / "bench", **{f"knnvote.{r}": ROOT / r for r in ROOMS}}
    found = {}
    for package, folder in places.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            if package == "knnvote" and parts[0] in ROOMS:
                continue  # links to the rooms
            found[".".join([package, *parts]).removesuffix(".__init__")] = path
    return found


MODULES = _modules()
FOLDERS = sorted({name if path.name == "__init__.py" else name.rpartition(".")[0] for name, path in MODULES.items()})


def _folder(name):
    return name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]


@cache
def _tree(name):
    return ast.parse(MODULES[name].read_text())


@cache
def _imports(name):
    """What a module imports, wherever in it: (line, dots, the imported module's dotted name)."""
    return list(_find_imports(name))


def _find_imports(name):
    for node in ast.walk(_tree(name)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, 0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = _folder(name).split(".")
            start = ".".join(above[: len(above) - node.level + 1]) if node.level else ""
            base = ".".join(filter(None, [start, node.module]))
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield node.lineno, node.level, inner if inner in MODULES else base


def _imports_of(folder):
    """The imports of the modules that lie in a folder itself: (module, line, dots, imported module)."""
    return [(name, *found) for name in MODULES if _folder(name) == folder for found in _imports(name)]


def _child(folder, name):
    """The direct child of a folder, a module or a folder, in which a module lies; None outside and for its __init__."""
    return name[len(folder) + 1 :].split(".")[0] or None if f"{name}.".startswith(f"{folder}.") else None


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_between_what_lies_in_a_folder_form_no_circle(folder):
    graph = {}
    for name in MODULES:
        if importer := _child(folder, name):
            imported = {_child(folder, target) for _, _, target in _imports(name)}
            graph.setdefault(importer, set()).update(imported - {None, importer})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"{folder}: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_room_imports_only_those_before_it_and_none_the_face(folder):
    room = folder.split(".")[1] if "." in folder else None
    allowed = ROOMS[: ROOMS.index(room) + 1] if room in ROOMS else (*ROOMS, "cli", "demo", "serve")
    beyond = [
        f"{MODULES[name]}:{line} imports {target}"
        for name, line, _, target in _imports_of(folder)
        if f"{target}.".startswith("knnvote.") and _child("knnvote", target) not in allowed
    ]
    assert not beyond, "\n".join(beyond)


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_are_relative_within_a_folder_and_by_the_package_across(folder):
    odd = [
        f"{MODULES[name]}:{line} imports {target}"
        for name, line, dots, target in _imports_of(folder)
        if dots != (1 if f"{target}.".startswith(f"{folder}.") and folder != "knnvote" else 0)
    ]
    assert not odd, "\n".join(odd)


def test_nothing_imports_the_rooms_without_the_package():
    """Not even a test, nor a program that a test writes: installed, there is no `data`."""
    bare = re.compile(rf"^\s*(?:import|from) (?:{'|'.join(ROOMS)})\b[\w.]*(?: import\b| as\b|$)", re.MULTILINE)
    for path in [*MODULES.values(), *(ROOT / "tests").rglob("*.py")]:
        found = bare.search(path.read_text())
        assert found is None, f"{path}: {found[0].strip()}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_holds_few_modules(folder):
    inside = [name for name, path in MODULES.items() if path.name != "__init__.py" and _folder(name) == folder]
    assert len(inside) <= MOST_MODULES, f"{folder}: {len(inside)} modules"


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_and_functions_are_short(folder):
    """But for a command's options: a function that they make a command may be longer."""
    inside = [name for name in MODULES if _folder(name) == folder]
    lines = {MODULES[name]: len(MODULES[name].read_text().splitlines()) for name in inside}
    assert not {path: number for path, number in lines.items() if number > MOST_LINES}
    long = [
        f"{MODULES[name]}:{node.lineno} {node.name} has {length} lines"
        for name in inside
        for node in ast.walk(_tree(name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := node.end_lineno - node.lineno + 1) > MOST_LINES_OF_A_FUNCTION
        and not (name.startswith("knnvote.cli") and any(map(_is_command, node.decorator_list)))
    ]
    assert not long, "\n".join(long)


def _is_command(decorator):
    return isinstance(decorator, ast.Call) and getattr(decorator.func, "attr", None) == "command"


def test_the_test_files_have_no_names_that_hide_a_library():
    """Their tools are imported by bare names."""
    tools = {path.stem for path in (ROOT / "tests/tools").glob("*.py")}
    assert not tools & {*sys.stdlib_module_names, *ROOMS, "knnvote", "bench"}
