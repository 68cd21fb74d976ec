"""The votes that people use on embeddings side by side, and how thresholds refuse what is out of scope."""
