"""Several who do one job: ranges of large files, whose turn each is, and what is left."""
