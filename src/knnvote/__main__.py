"""The command, as ``python -m knnvote`` and as the script ``knnvote``.

Importing what the command needs takes a moment, in which Ctrl-C has to end it as quietly as later.
"""

import os
import signal


def _end(_number: int, _frame: object) -> None:
    try:
        os.write(2, b"interrupted\n")
    finally:
        os._exit(130)


def main() -> None:
    """Run the command line and exit with its code."""
    for number in (signal.SIGINT, signal.SIGTERM):  # until the command heeds them by itself
        signal.signal(number, _end)
    from knnvote.cli.main import main as run  # noqa: PLC0415  # the moment that it takes

    run()


if __name__ == "__main__":
    main()
