"""The command `eventbus`: everything an operator does, and nothing an application needs."""
