"""Go without a network: its module proxy is a folder of what Debian packages of its modules."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

PACKAGED = Path("/usr/share/gocode/src")
#: What a program that speaks gRPC is built of, and the part of it that is needed.
_MODULES = {
    "github.com/golang/protobuf": "",
    "github.com/google/go-cmp": "",
    "golang.org/x/net": "",
    "golang.org/x/sys": "",
    "golang.org/x/text": "",
    "google.golang.org/genproto": "googleapis/rpc",
    "google.golang.org/grpc": "",
    "google.golang.org/protobuf": "",
}
_VERSION = "v1.0.0"


def go_environment(folder: Path) -> dict[str, str]:
    """Return what Go is told, so that it finds modules in a folder that is filled here."""
    proxy = folder / "proxy"
    for module in _MODULES:
        _publish(module, proxy)
    return {
        "GOPROXY": proxy.as_uri(),
        "GOSUMDB": "off",
        "GOTOOLCHAIN": "local",
        "GOPATH": str(folder / "path"),
        "GOCACHE": os.environ.get("GOCACHE", str(Path.home() / ".cache" / "go-build")),
        # What is read-only cannot be cleaned away after the test.
        "GOFLAGS": "-modcacherw",
    }


def _publish(module: str, proxy: Path) -> None:
    """Write what a proxy has of a module; each requires all others, in the only version."""
    told = proxy / module / "@v"
    told.mkdir(parents=True)
    others = "".join(f"\t{one} {_VERSION}\n" for one in _MODULES if one != module)
    (told / "list").write_text(f"{_VERSION}\n")
    (told / f"{_VERSION}.info").write_text(f'{{"Version": "{_VERSION}"}}')
    (told / f"{_VERSION}.mod").write_text(f"module {module}\n\ngo 1.17\n\nrequire (\n{others})\n")
    source = PACKAGED / module
    with zipfile.ZipFile(told / f"{_VERSION}.zip", "w") as archive:
        for path in (source / _MODULES[module]).rglob("*"):
            if path.suffix in (".go", ".s"):
                archive.write(path, f"{module}@{_VERSION}/{path.relative_to(source)}")
