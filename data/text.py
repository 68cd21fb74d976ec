"""Text for people and their terminals: on one line, and what comes from files cannot command a terminal."""


def printable(text: str) -> str:
    """Text whose control and format characters, line ends too, are shown as Python writes them in a string."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def first_line(text: str) -> str:
    """The first line of a text, which may be empty."""
    return (text.splitlines() or [""])[0]


def describe_error(error: BaseException) -> str:
    """What an error says, on one line: its first, or what kind of error it is where it says nothing."""
    return first_line(str(error) or type(error).__name__)
