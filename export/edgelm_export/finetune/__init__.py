"""Base model and data to a fine-tuned checkpoint: an ordinary Hugging Face folder."""

from edgelm_export.finetune.plan import FinetuneOptions, FinetuneReport
from edgelm_export.finetune.run import finetune

__all__ = ["FinetuneOptions", "FinetuneReport", "finetune"]
