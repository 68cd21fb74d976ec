"""Names are those of the tables behind them, and what a person types of them is what the library takes."""

from dataclasses import fields
from typing import get_args, get_type_hints

import click
import pytest

from knnvote.classify.adaptive.tune import Tuning
from knnvote.classify.search.kinds import SEARCHERS
from knnvote.classify.vote import Rule
from knnvote.classify.weighting import WEIGHTINGS
from knnvote.cli.main import cli
from knnvote.indexer import metric, names
from knnvote.indexer.build import IndexOptions


@pytest.mark.parametrize(
    ("table", "known"),
    [(metric.METRICS, names.METRIC_NAMES), (WEIGHTINGS, names.WEIGHTS), (SEARCHERS, names.KINDS)],
    ids=["metrics", "weightings", "searchers"],
)
def test_a_table_has_a_row_for_every_name_and_no_other(table, known):
    assert list(table) == list(known)


def test_what_stands_behind_a_name_has_it():
    assert [found.name for found in metric.METRICS.values()] == list(names.METRIC_NAMES)
    assert [found.name for found in WEIGHTINGS.values()] == list(names.WEIGHTS)


def choices(command, option):
    (found,) = [param for param in cli.commands[command].params if f"--{option}" in param.opts]
    assert isinstance(found.type, click.Choice)
    return tuple(found.type.choices)


@pytest.mark.parametrize(
    ("option", "known"),
    [("metric", names.METRIC_NAMES), ("weights", tuple(names.WEIGHTS)), ("ties", names.TIES), ("task", names.TASKS)],
)
def test_options_of_the_command_line_offer_every_name(option, known):
    offered = [
        choices(name, option)
        for name, command in cli.commands.items()
        if any(f"--{option}" in param.opts for param in command.params)
    ]
    assert offered
    assert set(offered) == {known}


def test_the_kind_of_a_factory_string_is_told_by_the_string():
    assert (*choices("index", "kind"), "factory") == names.KINDS


@pytest.mark.parametrize(
    ("record", "field", "known"),
    [(IndexOptions, "kind", names.KINDS), (IndexOptions, "metric", names.METRIC_NAMES), (Rule, "ties", names.TIES)],
)
def test_records_are_typed_by_the_names_and_their_defaults_are_among_them(record, field, known):
    assert get_args(get_type_hints(record)[field]) == known
    (default,) = [found.default for found in fields(record) if found.name == field]
    assert default in known


def test_weights_of_records_are_a_name_by_default():
    assert {Rule().weights, Tuning().weights} == {next(iter(names.WEIGHTS))}
