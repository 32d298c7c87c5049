"""CamemBERT (Martin et al., 2020; `CamembertModel` of transformers): RoBERTa under another name."""

from edgelm_export.families.roberta import TASKS, build, check

__all__ = ["TASKS", "build", "check"]
