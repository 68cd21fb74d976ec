"""Whether the libraries of the extra `serve` are there, told before any of them is imported."""

from importlib.util import find_spec

from knnvote.data.errors import KnnvoteError

_LIBRARIES = {
    "starlette": "Starlette",
    "uvicorn": "uvicorn",
    "prometheus_client": "prometheus_client",
    "jinja2": "Jinja2",
}


def check_serve_extra() -> None:
    """Refuse to serve without them.

    Raises:
        KnnvoteError: one of them is not installed, naming the command that installs all.
    """
    for module, name in _LIBRARIES.items():
        if find_spec(module) is None:
            raise KnnvoteError(f"serve needs {name}, which is not installed: pip install 'knnvote[serve]'")
