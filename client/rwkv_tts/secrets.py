"""Secrets that lie in files, as containers get them."""

from pathlib import Path
from urllib.parse import quote, urlsplit


def read_secret(name: str, path: Path) -> str:
    """The one line of a secret's file; ``name`` is what told us of it.

    Raises:
        ValueError: One line that says what is wrong, without the secret.
    """
    try:
        secret = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ValueError(f"{name}: {path}: {reason}; accepted: a file with one line, the password") from None
    if not secret or len(secret.splitlines()) > 1:
        raise ValueError(f"{name}: {path}: accepted: a file with one line, the password")
    return secret


def with_password(url: str, password: str) -> str:
    """A URL of Redis with a password in place of its own."""
    try:
        parts = urlsplit(url)
    except ValueError:  # its message may quote a password; whoever opens the URL refuses it
        return url
    login, _, host = parts.netloc.rpartition("@")
    user = login.partition(":")[0]
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()
