"""Commands that look at what is on disk: inspect, verify."""

import click

from .options import example, json_option
from .talk import print_json, talk


@click.command(epilog=example("knnvote inspect digits.knn"))
@click.argument("path")
@json_option
def inspect(path: str, as_json: bool) -> None:
    """Show what an index, a job's output or images hold."""
    from knnvote.classify.inspection import inspect_path

    facts = inspect_path(path)
    if as_json:
        print_json(facts)
    if facts["type"] == "images" and all("error" in file for file in facts["files"]):
        for name, error in (file.values() for file in facts["files"]):
            talk(f"error: {error if name in error else f'{name}: {error}'}")
        click.get_current_context().exit(1)
    if not as_json:
        from .tables.inspection import print_inspection

        print_inspection(facts)


@click.command(epilog=example("knnvote verify digits.knn"))
@click.argument("path")
def verify(path: str) -> None:
    """Check every byte of an index folder, or of a job's outputs against receipts and inputs."""
    from knnvote.classify.verification import verify_path

    found = verify_path(path)
    for problem in found.problems:
        talk(problem)
    if found.gone:
        talk(f"note: {len(found.gone):,} inputs are gone and could not be compared, the first {found.gone[0]}")
    if found.problems:
        click.get_current_context().exit(1)
    talk(f"{found.shown}: {found.summary}")
