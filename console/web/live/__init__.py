"""What goes on now: the newest events and how the bus stands, read once for all who watch."""
