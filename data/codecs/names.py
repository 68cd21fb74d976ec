"""Names that the user gives; without NumPy, for the command line's help."""

from typing import Literal, get_args

Background = Literal["white", "black"]
BACKGROUNDS: tuple[Background, ...] = get_args(Background)
