"""Conversations out to files and in from them, ours and other programs'."""

from server.core.archive.importing import Report, import_
from server.core.archive.reading import Readable
from server.core.archive.writing import write

__all__ = ["Readable", "Report", "import_", "write"]
