"""Driver errors become this project's errors here, and nowhere else in the store.

Three questions are asked of an exception of SQLAlchemy or a driver: is the schema missing, is it
the row that is bad, or is it the database? Only the second is of interest to the archive, which
sets bad rows aside.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, exc

from events.errors import EventBusError, NotMigrated, StoreUnavailable
from events.settings import without_password

# SQLSTATE: undefined table, column, schema. SQLite has only its sentences.
_NO_SCHEMA_STATES = ("42P01", "42703", "3F000")
_NO_SCHEMA_TEXTS = ("no such table", "no such column", "has no column named")
# SQLSTATE classes: data exception, integrity violation, program limit (an index row too long).
_BAD_ROW_CLASSES = ("22", "23", "54")
# Parts of libpq's sentences about encryption.
_TLS_TEXTS = ("certificate", "SSL", "sslmode")
DATABASE_URL = "DATABASE_URL"
_BUSY_TEXTS = ("database is locked", "database table is locked")


def name_of(engine: Engine) -> str:
    """Return the engine's URL, fit for messages."""
    return without_password(engine.url.render_as_string(hide_password=True).replace("+psycopg2", ""))


@contextmanager
def mapped(engine: Engine, named: str = DATABASE_URL) -> Iterator[None]:
    """Turn what the driver raises inside the block into the errors of `events.errors`.

    Args:
        named: the variable or option that gave its URL.

    Raises:
        NotMigrated: a table or column is missing.
        StoreUnavailable: anything else the database or its connection failed with; the sentence
            names the URL without its password. What was being written may or may not have arrived.
    """
    try:
        yield
    except (exc.ArgumentError, exc.CompileError):
        raise  # a mistake in the store itself: not to be disguised as the database's failure
    except exc.SQLAlchemyError as error:
        raise _ours(engine, error, named) from None


def is_bad_row(error: exc.SQLAlchemyError) -> bool:
    """Tell whether a statement failed because of the values it carried."""
    if isinstance(error, exc.DataError | exc.IntegrityError):
        return True
    if isinstance(error, exc.DBAPIError):
        cause = error.orig
        return _state(error)[:2] in _BAD_ROW_CLASSES or isinstance(cause, ValueError | OverflowError | TypeError)
    return isinstance(error, exc.StatementError) and isinstance(error.orig, ValueError | OverflowError | TypeError)


def is_busy(error: exc.SQLAlchemyError) -> bool:
    """Tell whether SQLite gave up waiting for another writer."""
    return isinstance(error, exc.OperationalError) and str(error.orig) in _BUSY_TEXTS


def is_missing_schema(error: exc.SQLAlchemyError) -> bool:
    """Tell whether a table or column that this version needs is not there."""
    if not isinstance(error, exc.DBAPIError):
        return False
    return _state(error) in _NO_SCHEMA_STATES or any(text in str(error.orig) for text in _NO_SCHEMA_TEXTS)


def not_migrated(engine: Engine, finding: str) -> NotMigrated:
    """Make the error for a database whose schema is not this version's."""
    return NotMigrated(f"The database {name_of(engine)} {finding}: run `eventbus migrate`.")


def first_line(error: exc.SQLAlchemyError) -> str:
    """Return what the driver said, one line, without the statement and its values."""
    cause = getattr(error, "orig", None)
    lines = str(cause if cause is not None else error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def _ours(engine: Engine, error: exc.SQLAlchemyError, named: str) -> EventBusError:
    if is_missing_schema(error):
        return not_migrated(engine, f"lacks a table or column that this version needs ({first_line(error)})")
    reason = first_line(error)
    if isinstance(error, exc.TimeoutError):
        reason = "every connection of the pool stayed in use (EVENTBUS_SQL_POOL_SIZE)"
    password = engine.url.password
    if password:
        reason = reason.replace(str(password), "***")
    return StoreUnavailable(
        f"The database {name_of(engine)} cannot be used: {reason.rstrip('.')}. {_advice(reason, named)}"
    )


def _advice(reason: str, named: str) -> str:
    if any(text in reason for text in _TLS_TEXTS):
        return (
            f"Its authority's PEM file is named by sslrootcert in the query of {named} (or PGSSLROOTCERT), sslmode "
            "(PGSSLMODE) says how much is verified: verify-full certificate and host; require encrypts, and without "
            "sslrootcert takes every certificate."
        )
    return f"Check {named} and that the server runs, accepts connections and can write."


def _state(error: exc.DBAPIError) -> str:
    # psycopg2 says pgcode; psycopg, which a caller's own engine may use, sqlstate.
    return getattr(error.orig, "pgcode", None) or getattr(error.orig, "sqlstate", None) or ""
