"""What commands tell of themselves: in sections, in lines that fit a terminal; and what shells complete."""

import re

import click
import pytest
from click.testing import CliRunner

from knnvote.cli import command as commands
from knnvote.cli.main import cli

NAMES = sorted(cli.commands)


def help_of(*arguments):
    done = CliRunner(env={"COLUMNS": "80"}).invoke(cli, [*arguments, "--help"])
    assert done.exit_code == 0
    return done.output


def sections(text):
    """What stands in each section of a help."""
    parts = re.split(r"^(\S.*):$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_commands_stand_in_one_screen_by_what_they_are_for():
    text = help_of()
    lines = text.splitlines()
    assert len(lines) <= 45
    assert max(map(len, lines)) <= 80
    assert "..." not in text.partition("Options:")[2]  # nothing is cut short
    told = sections(text)
    assert list(told) == [
        *("Options", "Get images", "Build an index", "Classify", "Judge", "Look", "Check what is on disk")
    ]
    named = [
        name for title, rows in told.items() if title != "Options" for name in re.findall(r"^  (\S+) ", rows, re.M)
    ]
    assert sorted(named) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_command_tells_each_option_once_in_lines_that_fit(name):
    text = help_of(name)
    lines = text.splitlines()
    assert len(lines) <= 65
    assert max(map(len, lines)) <= 80
    told = re.findall(r"^  (?:-\w, )?(--[a-z-]+)", text, re.MULTILINE)
    own = [option.opts[-1] for option in cli.commands[name].params if isinstance(option, click.Option)]
    assert sorted(told) == sorted([*own, "--quiet", "--verbose", "--help"])


def test_what_is_required_stands_first_and_what_all_commands_have_last():
    told = sections(help_of("classify"))
    assert list(told) == ["Output", "Vote", "Accept", "Images", "Run"]
    assert told["Output"].split()[0] == "--out"
    assert told["Run"].rindex("--verbose") > told["Run"].index("--threads")
    assert next(iter(sections(help_of("demo")))) == "Options"  # one section needs no other name


def test_sections_name_parameters_that_commands_have():
    have = {param.name for command in cli.commands.values() for param in command.params}
    named = [name for names in commands._SECTIONS.values() for name in names]
    assert set(named) <= have
    assert len(named) == len(set(named))


@pytest.mark.parametrize("name", NAMES)
def test_every_path_is_completed_by_the_shell(name):
    command = cli.commands[name]
    context = click.Context(command)
    kinds = {"FILE": "file", "INDEX": "dir", "OUT": "dir", "X.knn": "dir", "FOLDER": "dir", "DIR": "dir"}
    for param in command.params:
        shown = param.metavar or param.human_readable_name
        expected = "file" if re.search(r"IMAGES|FIXES|PATH|SRC|DEST|FILE", shown) else kinds.get(shown.strip("[]"))
        if expected and shown != "PATH":
            (completed,) = param.shell_complete(context, "dig")
            assert (completed.type, completed.value) == (expected, "dig"), param.name
