"""Pictures, drawn with matplotlib, which the extra ``plot`` installs."""
