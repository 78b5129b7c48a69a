"""Benchmarks: romana beside a baseline, in one run, alternating."""
