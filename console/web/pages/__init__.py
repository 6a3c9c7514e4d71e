"""The console's pages, a file a page: complete without JavaScript, made of what the HTTP API answers."""
