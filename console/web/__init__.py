"""The web process: HTTP API, console, and what hosts ask of a process. See docs/web.md."""
