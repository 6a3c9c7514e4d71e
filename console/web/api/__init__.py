"""The HTTP API's operations, a file a subject."""
