"""Text for a terminal: what comes from files cannot command it."""


def printable(text: str) -> str:
    """Text whose control and format characters, line ends too, are shown as Python writes them in a string."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
