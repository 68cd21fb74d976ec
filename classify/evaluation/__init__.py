"""How good an index, a rule or a label is: comparison, choice of k, suspects, the limit of distances."""
