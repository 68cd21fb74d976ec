"""Index and images to labels: search, vote, evaluation, the batch job, pictures and pages."""
