"""Benchmarks: what the parts cost on this machine, side by side in one run."""
