"""Text that others wrote, as it may be shown: it must not steer a terminal, nor look like other lines of ours."""

from __future__ import annotations

import re

# The control codes of C0 and C1, line ends of Unicode, what turns the direction of writing (Unicode's report 36),
# and halves of characters, which no terminal can show.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff]")


def visible(text: str, keep: str = "") -> str:
    r"""`text` with every control character but those of `keep` written as Python writes it: `\x1b`, `\n`, `\u202e`."""
    return _UNSEEN.sub(lambda match: match[0] if match[0] in keep else repr(match[0])[1:-1], text)
