"""How long a text a model reads, asked of the model: some count positions from a row that their configuration hides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

# Of a text that is longer than this the attention of a whole run could take more memory than there is.
MOST = 2048
_SHORT = (4, 12)  # tokens of the two texts that show what grows with their length


def longest(reads: Callable[[int], bool], most: int) -> int:
    """The largest number of tokens up to ``most`` that is read; ``most`` where not even one is, for another reason."""
    if reads(most) or not reads(1):
        return most
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if reads(middle) else (low, middle)
    return low


def longest_of_torch(model: Any, config: Mapping[str, Any], most: int) -> int:
    """The largest number of tokens up to ``most`` that a model of transformers reads without padding."""
    if most > MOST:
        most = min(most, _by_tables(model, config))
    return most if most > MOST else longest(lambda length: _reads(model, config, length), most)


def plain_token(config: Mapping[str, Any]) -> int:
    """A token that is most likely a piece of a word: it is not padding, which is counted otherwise."""
    middle = int(config["vocab_size"]) // 2
    return middle + 1 if middle == config.get("pad_token_id") else middle


def _reads(model: Any, config: Mapping[str, Any], length: int) -> bool:
    ids = torch.full((1, length), plain_token(config))
    try:
        with torch.inference_mode():
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (IndexError, RuntimeError):  # a row that a table does not have, or tables that do not fit together
        return False
    return True


def _by_tables(model: Any, config: Mapping[str, Any]) -> int:
    """The rows of a table whose highest row in use grows with the text, less those before its first."""
    seen: dict[Any, list[int]] = {}

    def note(table: Any, given: Any, _: Any) -> None:
        seen.setdefault(table, []).append(int(given[0].max()))

    tables = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    handles = [table.register_forward_hook(note) for table in tables]
    read = all(_reads(model, config, length) for length in _SHORT)
    for handle in handles:
        handle.remove()
    short, long = _SHORT
    counting = {
        table: highest[-1] - (long - 1)
        for table, highest in seen.items()
        if len(highest) == len(_SHORT) and highest[-1] - highest[0] == long - short
    }
    limits = [table.num_embeddings - before for table, before in counting.items()]
    return min(limits, default=1 << 30) if read else 1 << 30
