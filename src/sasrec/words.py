"""Numbers and names, as messages have them."""


def counted(number: int, noun: str) -> str:
    """A number of things: "1 item", "2,000 items", "1 history", "3 histories"."""
    several = f"{noun.removesuffix('y')}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else several}"


def with_article(noun: str) -> str:
    """A name after its article: "an int", "a str"; "a uint8", as it is said."""
    return f"{'an' if noun[:1] in {*'aeioAEIO'} else 'a'} {noun}"
