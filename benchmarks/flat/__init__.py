"""Whether what an event costs stays the same when there is more of everything."""
