"""Benchmarks: every figure is a ratio to the raw floor of the same work, measured in the same run."""
