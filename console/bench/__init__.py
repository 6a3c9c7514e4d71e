"""What `eventbus bench` measures, and how: this bus alone, on the servers of whoever asks."""
