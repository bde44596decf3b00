"""What a terminal may be given."""

import re

_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def harmless(text: str) -> str:
    """The text without characters that steer a terminal, or break a line, as ids, titles and records may hold some."""
    return _STEERING.sub("\ufffd", text)
