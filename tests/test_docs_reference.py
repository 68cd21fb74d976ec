"""README and docs as a reference: all that there is to call is there, and what they name and link to exists."""

import re
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest

import knnvote
from knnvote.cli.main import cli

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
PROSE = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`]+)`")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
# Of other programs, or of every command.
_FOREIGN_OPTIONS = {"--check", "--cases", "--draws", "--help", "--num-cpus", "--quiet", "--verbose", "--version"}


def prose(page):
    """A page without its blocks."""
    return _FENCED.sub("", page.read_text())


def options(command):
    """A command's options by their long names."""
    own = [option for option in command.params if isinstance(option, click.Option)]
    return {name: option for option in own for name in (*option.opts, *option.secondary_opts)}


def sections(page, heading):
    """What stands below each heading that matches, up to the next one of its level or above."""
    parts = re.split(rf"^{heading}$", page.read_text(), flags=re.MULTILINE)
    level = heading.count("#")
    texts = [re.split(rf"^#{{1,{level}}} ", text, maxsplit=1, flags=re.MULTILINE)[0] for text in parts[2::2]]
    return dict(zip(parts[1::2], texts, strict=True))


@pytest.fixture(scope="module")
def bench():
    """The commands of the benchmarks, by module; they are no part of the wheel."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "path", [*sys.path, str(ROOT)])
        names = (
            "__main__",
            "building",
            "cluster",
            "job",
            "limited",
            "load",
            "made",
            "promise.__main__",
            "scale.__main__",
            "serve.__main__",
            "votes.__main__",
        )
        modules = [f"bench.{name}" for name in names]
        yield {name.removesuffix(".__main__"): import_module(name).main for name in modules}


def test_each_command_has_a_section_with_an_example():
    found = sections(DOCS / "commands.md", r"## knnvote ([a-z-]+)")
    assert found.keys() == cli.commands.keys()
    for name, text in found.items():
        assert re.search(rf"```console\n(?:.*\n)*?\$ knnvote {name}\b", text), name
    for option in options(cli):
        assert f"`knnvote {option}`" in (DOCS / "commands.md").read_text(), option


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_each_option_of_a_command_is_in_its_section_with_its_default(name):
    text = sections(DOCS / "commands.md", r"## knnvote ([a-z-]+)")[name]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `--")]
    told = {option for row in rows for option in _OPTION.findall(row[0])}
    assert told == options(cli.commands[name]).keys()
    for first, default, *_ in rows:
        own = [options(cli.commands[name])[option] for option in _OPTION.findall(first)]
        if len(own) > 1:
            continue  # a row that refers to those that commands share
        if isinstance(own[0].type, click.Choice):
            assert re.findall(r"`(?:--\S+ )?(\S+?)`", first) == list(own[0].type.choices)
        if isinstance(own[0].default, str | int | float) and own[0].default not in {False, ""}:
            assert default == str(own[0].default)


def test_each_shared_option_is_one_of_several_commands():
    (text,) = sections(DOCS / "commands.md", r"## (Options that many commands share)").values()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `--")]
    for first, *_ in rows:
        (name,) = _OPTION.findall(first)
        found = [options(command)[name] for command in cli.commands.values() if name in options(command)]
        assert len(found) > 1, name
        if isinstance(found[0].type, click.Choice):
            assert re.findall(r"`(?:--\S+ )?(\S+?)`", first) == list(found[0].type.choices)


def test_each_name_of_the_python_face_has_a_section_with_an_example():
    found = sections(DOCS / "python.md", r"### `(\w+)`")
    assert sorted(found) == sorted(knnvote.__all__)
    for name, text in found.items():
        example = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
        assert re.search(rf"\b{name}\b", example), name


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_commands_and_options_in_the_text_exist(page, bench):
    known = [*cli.commands.values(), *bench.values()]
    for code in _CODE.findall(prose(page)):
        program, word, *_ = [*code.split(), "", ""]
        named = cli.commands.get(word) if program == "knnvote" else None
        assert program != "knnvote" or named or word in {"", "--help", *options(cli)}, code
        for option in set(_OPTION.findall(code)) - _FOREIGN_OPTIONS:
            assert any(option in options(command) for command in ([named] if named else known)), code


def test_command_lines_of_the_benchmarks_can_be_parsed(bench):
    text = "\n".join(page.read_text() for page in PAGES).replace(" \\\n", " ")
    lines = re.findall(r"(?:^\$ |`)python -m (bench[.\w]*) ?([^`\n]*)", text, re.MULTILINE)
    assert {module for module, _ in lines} == bench.keys()
    for module, arguments in lines:
        if arguments or module != "bench":
            bench[module].make_context(module, arguments.split())


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    found = re.findall(r"\]\(([^)\s]+)\)|\bsrc=\"([^\"]+)\"", prose(page))
    for link in map("".join, found):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_files_that_contributing_names_are_there():
    named = re.findall(r"`((?:\.?\w+/)+[\w.]*)`", (ROOT / "CONTRIBUTING.md").read_text())
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def anchors(page):
    """The names by which links find the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.name)
def test_no_table_is_broken(page):
    for table in re.findall(r"(?:^\|.*\n)+", prose(page), re.MULTILINE):
        head, rule, *rows = table.splitlines()
        assert re.fullmatch(r"\|(?: :?-{3,}:? \|)+", rule), head
        for row in (head, *rows):
            assert row.endswith(" |"), row
            assert len(re.findall(r"(?<!\\)\|", row)) == rule.count("|"), row
    for before in re.findall(r"^(.+)\n\|", prose(page), re.MULTILINE):
        assert before.startswith("|"), before  # a table that follows text needs an empty line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_reached_from_the_readme(page):
    if page.name != "README.md":
        assert f"](docs/{page.name})" in (ROOT / "README.md").read_text()
