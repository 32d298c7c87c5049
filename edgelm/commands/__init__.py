"""One module per command, named after it; each defines ``command``. Adding a command is adding a file."""
