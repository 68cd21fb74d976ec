"""Text for people and their terminals: on one line, numbers with units; what comes from files commands no terminal."""

import shlex


def printable(text: str) -> str:
    """Text whose control and format characters, line ends too, are shown as Python writes them in a string."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def whole_characters(text: str) -> str:
    """Text with a question mark for each half of a character, which JSON may escape and no file takes."""
    return text.encode(errors="replace").decode()


def first_line(text: str) -> str:
    """The first line of a text, which may be empty."""
    return (text.splitlines() or [""])[0]


def describe_error(error: BaseException) -> str:
    """What an error says, on one line: its first, or what kind of error it is where it says nothing."""
    return first_line(str(error) or type(error).__name__)


def counted(n: int, thing: str) -> str:
    """So many of something, whose name takes an s where they are not one."""
    return f"{n:,} {thing}" if n == 1 else f"{n:,} {thing}s"


def show_bytes(size: int) -> str:
    """A size for people, in decimal units."""
    value = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def show_speed(ratio: float) -> str:
    """Times the speed of something else; of what is much slower enough digits to tell how much."""
    return f"{ratio:.1f} x" if ratio >= 0.1 else f"{ratio:.2g} x"


def show_duration(seconds: float) -> str:
    """A time that work takes, in the unit that fits it."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s"


def python_command(code: str) -> str:
    """The command of a shell that has Python do something, in double quotes where these need no others within."""
    return f"python -c {shlex.quote(code)}" if set(code) & set('"$`\\!') else f'python -c "{code}"'
