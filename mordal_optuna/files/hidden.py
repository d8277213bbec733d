"""Addresses as they are shown: passwords are replaced, also in text that is no valid address."""

from __future__ import annotations

import re

HIDDEN = "***"
# Keys of an address's query that drivers take secrets from, such as `password` and `sslpassword`.
SECRET_KEY = re.compile(r"pass|pwd|secret|token|credential", re.IGNORECASE)
# What may be a password in text that is no address: all up to the last @, but a name before a
# colon. The greedy `.*` also covers a password with an unescaped @.
_MAY_BE_PASSWORD = re.compile(r"^([\w.+-]*://)?([^:/@\s]*:(?!//))?.*@", re.DOTALL)
_MAY_BE_SECRET = re.compile(
    rf"([\w.-]*(?:{SECRET_KEY.pattern})[\w.-]*=)('[^']*'|[^&\s]*)", re.IGNORECASE
)


def without_password(address: str) -> str:
    """Any text that may be an address, with what may be a password in it replaced by `***`.

    Args:
        address: address of a database or a folder, or any text that was given for one.
    """
    hidden = _MAY_BE_PASSWORD.sub(rf"\1\2{HIDDEN}@", address)
    return _MAY_BE_SECRET.sub(rf"\1{HIDDEN}", hidden)
