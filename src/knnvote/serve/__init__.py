"""The classifier as a service of HTTP: a page where one draws, and answers for programs."""
