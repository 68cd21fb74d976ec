"""Text for people: what comes from files cannot command a terminal, numbers have units."""


def printable(text: str) -> str:
    """Text whose control and format characters, line ends too, are shown as Python writes them in a string."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


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
