"""How close this bus comes to what Redis and the databases can do at all, and how its costs grow: no peers here."""
