"""What npm installed for the page: Markdown, sanitiser, highlighter, QR code; or nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from importlib.resources.abc import Traversable

from server.transports.rest.web_files import WebFile

#: by the names that the page has for them; the wheel has them too (pyproject.toml)
FILES = {
    "markdown-it.js": "markdown-it/dist/browser/markdown-it.esm.min.mjs",
    "dompurify.js": "dompurify/dist/purify.es.mjs",
    "qr.js": "qr/index.js",
    "highlight.js": "@highlightjs/cdn-assets/es/core.min.js",
}
_LANGUAGES = "@highlightjs/cdn-assets/es/languages"


class Libraries:
    """Files by their name, under a path that names their content: that of the lock file."""

    def __init__(self, web: Traversable) -> None:
        self.files = dict(_installed(web / "node_modules"))
        lock = web / "package-lock.json"
        self.path = f"vendor/{sha256(lock.read_bytes()).hexdigest()[:16]}/" if self.files else None


def _installed(modules: Traversable) -> Iterator[tuple[str, WebFile]]:
    paths = {name: modules.joinpath(*path.split("/")) for name, path in FILES.items()}
    if not all(path.is_file() for path in paths.values()):
        return
    for entry in modules.joinpath(*_LANGUAGES.split("/")).iterdir():
        if entry.name.endswith(".min.js"):
            paths[f"languages/{entry.name.removesuffix('.min.js')}.js"] = entry
    for name, path in paths.items():
        yield name, WebFile(path)
