"""What an adaptive index promises, beside what new images show."""
