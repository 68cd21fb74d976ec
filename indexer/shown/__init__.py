"""What is stored as people see it, on pages and in notebooks: images as small pictures, an index as HTML."""
