"""Benchmarks: ratios within one run against a stated baseline. `nox -s bench` runs them."""
