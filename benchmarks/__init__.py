"""Benchmarks: one command, one table, side by side in one run."""
