"""Index and images to labels: search, vote, batch job, compare, command line."""
