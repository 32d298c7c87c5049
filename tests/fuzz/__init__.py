"""Mutated bundles, checkpoints and memories with right hashes: each is answered, or refused by an error of edgelm's.

`make fuzz` runs all kinds and prints what went wrong; tests/fuzz/test_smoke.py runs a few of each.
"""
