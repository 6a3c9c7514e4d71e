"""What can be done to a run: each fault takes the stage and a source of numbers, and ends when it is undone."""


class Spared(Exception):
    """Nothing came of a fault: the sentence says why."""
