"""One module an engine: `ABOUT`, `convert` and a class `Engine`. Each runs in the environment of its own packages.

A module and its file in peers/ are all that a new engine takes. They import perf.encode.protocol and perf.encode.front,
and at the top level nothing that is not in the standard library.
"""
