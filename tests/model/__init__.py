"""A model of the event bus that plays random interleavings against the real scripts on a real Valkey.

scene.py      who is on stage: subscribers, types, projects; an event as replayable data
oracle.py     the model: what every script must answer, in plain Python
snapshot.py   what Redis holds after a step, and the invariants it must satisfy
archive.py    the archivers' model: two of them, one SQL, crashes in between
world.py      workers, publishers and archivers; each operation calls Redis and asks the oracle
moves.py      which operation comes next, by a seeded random
play.py       one run, its replay, and the shortest history that still fails
mutations.py  faults planted in the scripts, each of which must be caught

Beside it, without the model: filling.py and test_filling.py interleave publishers, fillers and an archiver.

python -m tests.model --seed 7 --steps 200 [--mutation no_holder] [--seeds 100]
"""
