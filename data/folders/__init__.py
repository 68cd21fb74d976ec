"""What the names in a folder say of the files that it holds."""
