"""edgelm's encoder beside its peers: the same models, one engine a process, in turns. `python -m perf.encode`."""
