"""How much one read takes into memory: so many entries, and about so many bytes, of sizes that nobody knows before."""

from __future__ import annotations

READ_BYTES = 8_000_000
"""A read stops about here, whatever its limit: large events must not fill a reader's memory."""
FIRST_CHUNK, CHUNK = 8, 100


class Budget:
    """How many entries to ask for next, so that a read ends near its limits; one entry at least.

    Args:
        entries: most entries of the read. size_bytes: about how many bytes they may have together.
    """

    def __init__(self, entries: int, size_bytes: int = READ_BYTES) -> None:
        self._entries = entries
        self._bytes = size_bytes
        self._largest = 0

    def chunk(self) -> int:
        """Return the number to ask for; 0 when the read ends here."""
        if self._entries <= 0 or self._bytes <= 0:
            return 0
        fits = self._bytes // self._largest if self._largest else FIRST_CHUNK
        return max(1, min(self._entries, CHUNK, fits))

    def spend(self, size_bytes: int) -> None:
        """Count one entry that was read."""
        self._entries -= 1
        self._bytes -= size_bytes
        self._largest = max(self._largest, size_bytes)
