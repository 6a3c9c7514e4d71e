"""`eventbus migrate`: brings the database to this version's schema."""

from __future__ import annotations

import sys

from console.options import Json
from console.printing import print_json


def command(as_json: Json = False) -> None:
    """Bring the database to this version's schema.

    Repeating it is harmless. Works on DATABASE_URL. The SQLite file of the embedded default is migrated
    by whoever opens it. All or nothing; of several that run at once, one migrates and the others wait.
    Each step is said before it begins: with millions of events one can take minutes.

    \b
    Examples:
      DATABASE_URL=postgresql://me@db/events eventbus migrate
      eventbus migrate --json
    """
    from console.opening import opened
    from events.settings import Settings
    from store.engine import open_engine
    from store.failures import name_of
    from store.migrate import HEAD, upgrade

    settings = Settings.from_env()
    with opened(settings) as backend:
        engine = open_engine(backend.database_url(), pool_size=1, timeout_s=settings.timeout_s)
        try:
            applied = upgrade(engine, _announce)
        finally:
            engine.dispose()
        name = name_of(engine)
    if as_json:
        print_json({"database": name, "applied": applied, "revision": HEAD})
    elif applied:
        print(f"The database {name} is at revision {HEAD} now; applied: {', '.join(applied)}.")
    else:
        print(f"The database {name} is at revision {HEAD} already; nothing to do.")


def _announce(revision: str, makes: str) -> None:
    print(f"Migrating to {revision}: {makes}", file=sys.stderr, flush=True)
