"""``python -m knnvote`` is the command."""

from knnvote.cli.main import main

main()
