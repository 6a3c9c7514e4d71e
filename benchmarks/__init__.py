"""Measurements of the bus beside its peers and the raw drivers, on one machine, in one run: `python -m benchmarks`."""
