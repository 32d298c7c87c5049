"""Checkpoint to bundle: everything that needs torch. Imports nothing heavy by itself."""
