"""What only Python can say or show: no command has it, and no file holds it."""
