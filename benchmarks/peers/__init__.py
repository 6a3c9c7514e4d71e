"""Contestants, a module each; `benchmarks/contestant.py` says what one has."""
