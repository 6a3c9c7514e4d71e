"""Examples that are written against the public API only, and shipped with the package."""
