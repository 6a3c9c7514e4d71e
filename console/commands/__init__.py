"""The commands, one a file; each imports what is heavy when it runs, so that `--help` stays fast."""
