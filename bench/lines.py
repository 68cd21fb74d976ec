"""One line a set of what `python -m bench` wrote: ours beside the best other: `python -m bench.lines */bench.json`."""

import json
from pathlib import Path
from typing import Any

import click

_FLAT = "IndexFlatL2"
_OURS = "knnvote"


@click.command()
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
def main(reports: tuple[Path, ...]) -> None:
    """Print a Markdown table of speeds as ratios to IndexFlatL2.

    REPORTS are files bench.json, each in a folder named for its set.
    """
    click.echo("| set | stored | exact | adaptive, agreement | best other with as much agreement |")
    click.echo("| --- | --- | --- | --- | --- |")
    for path in reports:
        report = json.loads(path.read_text(encoding="utf-8"))
        stored = f"{report['stored_images']:,} x {report['d']} {report['dtype']}"
        click.echo(f"| {path.parent.name} | {stored} | {' | '.join(_cells(report['results']))} |")


def _cells(results: list[dict[str, Any]]) -> list[str]:
    exact = [result for result in results if result["contender"].startswith("knnvote-exact")]
    adaptive = [
        result for result in results if result["contender"] == "knnvote-adaptive" and result["setting"] == 0.999
    ]
    agreement = adaptive[0]["quality"]["agreement"] if adaptive else 1.0
    others = [
        result
        for result in results
        if not result["contender"].startswith(_OURS) and result["quality"]["agreement"] >= agreement
    ]
    best = max(others, key=lambda result: float(result["ratio"]))
    named = f"{best['contender']} {best['shown']}".strip()
    return [
        ", ".join(f"{result['ratio']:.1f} x" for result in exact),
        "".join(f"{result['ratio']:.1f} x, {agreement:.4f}" for result in adaptive),
        f"{best['ratio']:.1f} x, {best['quality']['agreement']:.4f} ({named})",
    ]


if __name__ == "__main__":
    main(prog_name="python -m bench.lines")
