"""Growing and shrinking without a build: files written anew or longer, and what is told of it."""
