"""What a run leaves on this machine. Every file is private to the user (0600)."""
