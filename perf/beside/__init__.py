"""edgelm beside its peers: what perf.decode and perf.encode share. Environments, processes, rounds in turns, pages."""
