"""From raw text to final answer: what transformers answers, and whether a finished bundle answers the same.

torch reads the ids of transformers' own tokenizer here, never those of the bundle. A float32 bundle has to answer the
same; of a quantized one an answer may differ where the tolerance of its precision explains it.
"""

from __future__ import annotations

from edgelm_export.text_parity.gate import Gate, TextParity, ask, gate_texts

__all__ = ["Gate", "TextParity", "ask", "gate_texts"]
