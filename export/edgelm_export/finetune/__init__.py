"""Base model and data to a fine-tuned checkpoint: an ordinary Hugging Face folder."""

from edgelm_export.finetune.run import FinetuneOptions, FinetuneReport, finetune

__all__ = ["FinetuneOptions", "FinetuneReport", "finetune"]
