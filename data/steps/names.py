"""Names that the user gives; without NumPy, for the command line's help."""

PIXELS = "pixels"  # no step at all
STEPS = (PIXELS, "centre", "deskew", "blur", "gradients", "centred", "whitened", "unit")
