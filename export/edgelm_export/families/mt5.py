"""mT5 (Xue et al., 2021; `MT5ForConditionalGeneration` of transformers): T5 1.1 in many languages."""

from edgelm_export.families.t5 import TASKS, build, check

__all__ = ["TASKS", "build", "check"]
