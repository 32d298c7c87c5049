"""Side-by-side measurements of edgelm: `python -m perf`, or one of them, `python -m perf.cold_start`.

Never imported by the packages. docs/performance.md says what each one measures and how to read it.
"""
