"""One module an engine: `convert` and a class `Engine`. Each runs in the environment of its own packages.

They import perf.decode.protocol, which needs the standard library only, and nothing else of this repository.
"""
