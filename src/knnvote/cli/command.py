"""How commands are run and told: how loud they are, and their options by what they are for."""

from collections.abc import Iterable, Sequence
from typing import Any

import click

from .talk import loud, talk, watch_progress

# Parameters by what they are for, in the order of the help; what is not named stands last.
_SECTIONS = {
    "Output": (
        *("out", "neighbors", "probabilities", "source", "keep", "prefix", "top", "csv", "plot", "report", "as_json"),
        *("only", "overwrite"),
    ),
    "Search": ("kind", "factory", "metric", "task", "index_folders", "algorithms", "target_agreement"),
    "Vote": ("k", "max_k", "weights", "ties", "class_weight"),
    "Accept": ("min_confidence", "target_accuracy", "by_class", "max_distance", "false_alarms", "unknown"),
    "Images": (
        *("image_column", "shape", "label_column", "id_column", "group_column", "weight_column"),
        *("images_key", "labels_key", "grayscale", "background", "steps", "chains", "skip_bad", "limit", "sample"),
        *("quick", "id_file", "reviewed", "labels", "new_classes"),
        *("errors", "predictions", "ids", "where", "label", "status", "sort"),
    ),
}
_LEFT_WIDTH = 30  # columns of a terminal, for options at most


def _note(context: click.Context, option: click.Parameter, is_given: bool) -> None:
    """Keep an option that is no parameter of the command's function."""
    context.meta[str(option.name)] = is_given


def _loudness_option(name: str, what: str) -> click.Option:
    short = f"-{name[0]}"
    return click.Option([short, f"--{name}"], is_flag=True, expose_value=False, callback=_note, help=what)


_LOUDNESS = (
    _loudness_option("quiet", "Say nothing on stderr but errors."),
    _loudness_option("verbose", "Say what is recognised, and what stages take."),
)


class Command(click.Command):
    """A command that can be quiet or verbose, shows its progress, and tells its options in sections."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Its own, and those that every command has, as click adds --help."""
        *own, last = super().get_params(ctx)
        return [*own, *_LOUDNESS, last]

    def invoke(self, ctx: click.Context) -> Any:
        """Run it as loud as was asked, with its stages shown."""
        is_quiet, is_verbose = ctx.meta["quiet"], ctx.meta["verbose"]
        if is_quiet and is_verbose:
            raise click.UsageError("--quiet and --verbose contradict each other: give one of them", ctx)
        with loud(is_quiet=is_quiet, is_verbose=is_verbose), watch_progress():
            if is_verbose:
                _tell_machine(ctx.params.get("threads"))
            return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Tell the options by what they are for."""
        write_sections(formatter, _by_section(ctx, self.get_params(ctx)))


def _by_section(ctx: click.Context, params: Iterable[click.Parameter]) -> dict[str, list[tuple[str, str]]]:
    """Each option with its help, in sections; as *Options* where there is but one."""
    section_of = {name: title for title, names in _SECTIONS.items() for name in names}
    sections: dict[str, list[tuple[str, str]]] = {title: [] for title in (*_SECTIONS, "Run")}
    for param in params:
        told = param.get_help_record(ctx) if isinstance(param, click.Option) else None
        if told is not None:
            sections[section_of.get(str(param.name), "Run")].append(told)
    filled = {title: rows for title, rows in sections.items() if rows}
    return filled if len(filled) > 1 else {"Options": [told for rows in filled.values() for told in rows]}


def write_sections(formatter: click.HelpFormatter, sections: dict[str, list[tuple[str, str]]]) -> None:
    """Lists of names with their help under titles, all of one width."""
    widths = [len(name) for rows in sections.values() for name, _ in rows if len(name) <= _LEFT_WIDTH]
    for title, rows in sections.items():
        with formatter.section(title):
            formatter.write_dl([(name.ljust(max(widths)), told) for name, told in rows], col_max=_LEFT_WIDTH)


def _tell_machine(threads: int | None) -> None:
    """Say what does the work."""
    from importlib.metadata import version

    from knnvote.indexer.codes.library import describe_kernel
    from knnvote.indexer.threads import available_processors

    talk(f"knnvote {version('knnvote')}, kernel {describe_kernel()}, threads {threads or available_processors()}")


class Group(click.Group):
    """Commands by what they are for."""

    def __init__(self, *args: Any, **named: Any) -> None:
        """Hold none yet."""
        super().__init__(*args, **named)
        self._sections: dict[str, list[str]] = {}

    def add_section(self, title: str, commands: Sequence[click.Command]) -> None:
        """Add commands that are for one thing."""
        for command in commands:
            self.add_command(command)
        self._sections[title] = [str(command.name) for command in commands]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's
        """Tell each in a line."""
        limit = formatter.width - 6 - max(map(len, self.commands))
        sections = {
            title: [(name, self.commands[name].get_short_help_str(limit)) for name in names]
            for title, names in self._sections.items()
        }
        write_sections(formatter, sections)
