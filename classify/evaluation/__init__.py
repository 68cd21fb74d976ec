"""How good an index, a rule or a label is: comparison, thresholds, suspects, near copies."""
