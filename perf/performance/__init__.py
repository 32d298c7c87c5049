"""docs/performance.md from the results that are kept."""
