"""What parts of the service need beyond the core is imported where it is used; here is what is said when it is missing."""

from __future__ import annotations

from netnet.errors import Error


class MissingExtraError(Error):
    """A package that *what* needs is not installed; the message says how to install it."""

    def __init__(self, what: str, package: str, reason: object) -> None:
        super().__init__(f"{what}: the package {package} is needed: pip install 'netnet[proxy]' ({reason})")


__all__ = ["MissingExtraError"]
