"""How messages of the library name its parameters on the command line."""

from knnvote.data.errors import as_recorded

# What is no option with dashes in place of underscores.
_OTHERWISE = {
    "Answer.neighbors": "knnvote classify --neighbors",
    "chains": "--steps",
    "classifier": "--errors",
    "distance_limit": "--max-distance auto",
    "draw_choice": "knnvote choose-k --plot",
    "is_regression=True": "--task regression",
    "options=IndexOptions(overwrite=True)": "--overwrite",
    "steps": "--step",
    "tests": "IMAGES",
}


def as_typed(name: str) -> str:
    """A parameter as who runs the command types it: ``--label-column``, ``--skip-bad`` for skip_bad=True."""
    return _OTHERWISE.get(name) or as_recorded(name)
