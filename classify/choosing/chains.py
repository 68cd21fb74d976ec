"""Chains of steps between image and vector that are compared: those that people name, or those worth a comparison."""

from collections.abc import Sequence

from knnvote.data.errors import KnnvoteError, OptionError, check, param
from knnvote.data.steps.chain import Steps, parse_steps
from knnvote.data.steps.names import PIXELS, STEPS
from knnvote.data.steps.step import ImagesError
from knnvote.indexer.index import Index
from knnvote.indexer.names import MetricName

# Beside each step alone.
_TOGETHER = (
    *("centre deskew", "deskew blur", "centre deskew blur", "deskew gradients", "centre deskew gradients"),
    *("gradients whitened", "deskew gradients whitened"),
    "centred unit",
)
# What changes no neighbour by that metric where it comes last: a mean that is taken from all vectors, a length.
_IDLE_LAST: dict[MetricName, str] = {"l2": "centred", "l1": "centred", "cosine": "unit"}


def usual_chains(index: Index) -> list[Steps]:
    """Those worth a comparison for the images of an index: its own, none, each step alone, and some together.

    Left out are those that make nothing of images of such a shape or with such labels, or change no neighbour by the
    metric.
    """
    own, idle = str(index.steps), _IDLE_LAST.get(index.metric)
    texts = dict.fromkeys((own, *STEPS, *_TOGETHER))
    chains = (parse_steps(text) for text in texts if text == own or text.split()[-1] != idle)
    return [steps for steps in chains if _why_not(index, steps) is None]


def read_chains(index: Index, chains: Sequence[str]) -> list[Steps]:
    """Chains that a user names, each once, as texts such as ``deskew unit``.

    Raises:
        OptionError: there are no such steps, or they do not take the images of the index.
    """
    given = [chains] if isinstance(chains, str) else chains
    are_texts = isinstance(given, Sequence) and all(isinstance(text, str) and text.split() for text in given)
    check("chains", chains, are_texts and len(given) > 0, f"give texts of one step or more, such as {_told(index)}")
    found = {str(steps): steps for steps in map(_read, given)}
    for text, steps in found.items():
        why_not = _why_not(index, steps)
        if why_not is not None:
            flat = len(index.shape) == 1
            pictures = f"; knnvote index stores flat images as pictures with {param('shape')}" if flat else ""
            raise OptionError(
                f"{param('chains')} {text!r} cannot be done to the images of {index.path}: {why_not}; give some of "
                f"{_told(index)}, or others of their steps{pictures}"
            )
    return [*found.values()]


def _read(text: str) -> Steps:
    names = text.split()
    if PIXELS in names and len(names) > 1:
        raise OptionError(f"{param('chains')} {text!r} has {PIXELS}, which is no step: leave it out beside others")
    try:
        return parse_steps(" ".join(names))
    except KnnvoteError as error:
        raise OptionError(f"{param('chains')} {text!r}: {error.marked}, with blanks between them") from error


def _told(index: Index) -> str:
    chains = (steps for steps in usual_chains(index) if steps.least_images(index.shape) <= index.n)
    return ", ".join(repr(str(steps)) for steps in chains)


def _why_not(index: Index, steps: Steps) -> str | None:
    """Why steps make nothing of images of such a shape, or with such labels; None where they do."""
    try:
        steps.check_classes(is_regression=index.is_regression)
        steps.output(index.shape)
    except ImagesError as error:
        return error.why_not
    except OptionError as error:
        return error.marked
    return None
