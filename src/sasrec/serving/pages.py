"""The web page at `/`: the files of the folder `page`, which the browser lets do nothing but ask this server."""

from importlib.resources import files

FILES = {
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(
        ("page.js", "search.js", "history.js", "answers.js", "similar.js", "facts.js", "server.js", "elements.js"),
        "text/javascript; charset=utf-8",
    ),
}
"""Every file and its media type."""

HEADERS = {
    # Nothing from elsewhere, nothing inline, and no text that becomes markup: the browser itself sees to it.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def read_page(name: str) -> bytes:
    """What one of the files holds."""
    return files("sasrec.serving").joinpath("page", name).read_bytes()
