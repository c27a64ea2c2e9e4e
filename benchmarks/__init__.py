"""Figures, not tests: `python -m benchmarks [--quick]` prints one table of ratios within one run on one machine."""
