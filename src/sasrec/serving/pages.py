"""The web page at `/`: the files of the folder `page`, which the browser lets do nothing but ask this server."""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

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


def page_routes() -> list[Route]:
    """A route for each file; `index.html` is at `/` itself. They are read once, now."""
    folder = files("sasrec.serving").joinpath("page")
    return [
        _route("" if name == "index.html" else name, folder.joinpath(name).read_bytes(), media_type)
        for name, media_type in FILES.items()
    ]


def _route(name: str, content: bytes, media_type: str) -> Route:
    async def page(request: Request) -> Response:
        request.state.route = "page"
        return Response(content, media_type=media_type, headers=HEADERS)

    return Route(f"/{name}", page, methods=["GET"])
