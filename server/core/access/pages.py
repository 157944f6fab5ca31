"""Which web pages may reach us, and under which names: against rebinding and foreign pages."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from server.config.hosts import address_of, host_name, is_here
from server.core.errors import PermissionDeniedError

#: No host has these: in a URL they are where it begins or ends (RFC 3986, 3.2; `\` in browsers).
_NOT_IN_A_HOST = frozenset("/?#@\\")


class PagePolicy:
    """Allows the pages that we serve, and those of the origins and hosts that are named."""

    def __init__(
        self,
        origins: frozenset[str],
        hosts: frozenset[str],
        *,
        public: bool,
        keyless: Callable[[], bool],
    ) -> None:
        """`public`: others than this machine can reach us; `keyless`: nobody has to show a key now.

        "*" is every origin, or every host.
        """
        self._origins = origins
        self._hosts = hosts
        self._public = public
        self._keyless = keyless

    def check(
        self, origin: str | None, host: str | None, port: int, proxied: str | None = None
    ) -> None:
        """Refuse a Host that is not ours, and a page that we did not serve; see Auth.

        `proxied` is the host that a proxy was asked for, which need not be the one that it asks us
        for. Both have to be ours: a name that was rebound to us stays in the Host.
        """
        for name, one in (("Host", host), ("X-Forwarded-Host", proxied)):
            if not self._our_host(one):
                raise PermissionDeniedError(
                    f"This {name} is not allowed; TRIALOGUE_ALLOWED_HOSTS names those that are."
                )
        if origin is None:
            return
        asked = [proxied or host]
        if host and proxied and host_name(host) == host_name(proxied):
            asked.append(host)  # many a proxy tells the port in one of them alone
        if not any(self._our_origin(origin.lower(), one, port) for one in asked):
            raise PermissionDeniedError(
                "This Origin is not allowed; TRIALOGUE_ALLOWED_ORIGINS names those that are."
            )

    def _our_host(self, host: str | None) -> bool:
        if host is not None and not _NOT_IN_A_HOST.isdisjoint(host):
            return False
        if host is None or "*" in self._hosts:
            return True
        name = host_name(host)
        if host.lower() in self._hosts or name in self._hosts or is_here(host):
            return True
        if not self._public:
            return False
        # A name that we do not know can be rebound to us, which a key makes useless.
        return address_of(name) is not None or not (self._keyless() or self._hosts)

    def _our_origin(self, origin: str, host: str | None, port: int) -> bool:
        if "*" in self._origins or origin in self._origins:
            return True
        try:
            page = urlsplit(origin)
            page_port = page.port or (443 if page.scheme == "https" else 80)
        except ValueError:  # no URL at all
            return False
        if host is None or page.scheme not in ("http", "https"):
            return False
        return page.netloc == host.lower() or (
            page.hostname == host_name(host) and page_port == port
        )
