"""Whose certificate a `rediss://` server may show, and what is said of one that is not trusted.

Certificate and host name are verified unless somebody says otherwise, in `EVENTBUS_REDIS_TRUST` or in the URL's own
`ssl_...` options, which go first.
"""

from __future__ import annotations

import ssl
from typing import Any

from events.errors import InvalidSettings

ANY = "any"

# X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH of OpenSSL: another name than the URL's.
_OTHER_NAME = (62, 64)


def trusting(url: str, trust: str | None) -> dict[str, Any]:
    """Return the driver's options for a URL.

    Args:
        trust: as `Settings.redis_trust`.

    Raises:
        InvalidSettings: the file cannot be read, or holds no certificate.
    """
    if trust is None or not url.startswith("rediss://"):
        return {}
    if trust == ANY:
        return {"ssl_cert_reqs": "none"}
    try:
        ssl.create_default_context(cafile=trust)
    except OSError as error:
        why = "holds no PEM certificate" if isinstance(error, ssl.SSLError) else f"cannot be read: {error.strerror}"
        raise InvalidSettings(
            f"EVENTBUS_REDIS_TRUST must be the path of a PEM file with the authority's certificate, or {ANY}; "
            f"{trust!r} {why}."
        ) from None
    return {"ssl_ca_certs": trust}


def mistrust(error: BaseException) -> str | None:
    """Return why a server was not trusted, and what to do; None when that was not why. It completes a sentence."""
    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        said = cause.verify_message.rstrip(".")
        if cause.verify_code in _OTHER_NAME:
            return (
                f"shows the certificate of another ({said}). Name in REDIS_URL the host for which it was made; "
                "?ssl_check_hostname=false accepts any name that its authority has signed."
            )
        return (
            f"shows a certificate that is not trusted ({said}). Name the PEM file of its authority in "
            f"EVENTBUS_REDIS_TRUST. Where there is none, EVENTBUS_REDIS_TRUST={ANY} takes every certificate: whoever "
            "stands in between can then read and change everything."
        )
    return None


def _cause(error: BaseException | None) -> BaseException | None:
    """Return what the driver's exception came from: it keeps the sentence, and drops the class."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error
