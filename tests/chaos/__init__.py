"""Chaos: real processes under seeded faults, and a checker that tries to catch the bus breaking a promise."""
