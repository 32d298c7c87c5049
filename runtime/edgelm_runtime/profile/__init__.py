"""How long a bundle's answers take on this machine, where the time goes, and whether the numbers are to be trusted."""
