"""edgelm_runtime: a bundle in, an answer out. Needs numpy, onnxruntime and tokenizers, and nothing else.

Importing this package imports none of the three; `load` does, when it is called.
"""

from .loader import load

__all__ = ["load"]
