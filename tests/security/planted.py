"""Passwords and payloads that must be seen nowhere, and servers that take the passwords."""

from __future__ import annotations

import base64
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.fleet.fleet import children
from tests.servers import PostgresServer
from tests.valkey_servers import ValkeyServer, free_port

# Each begins and ends with the word that is searched for, so that half of one is found too.
WORD = "SESAME"
REDIS_PASSWORD = f"{WORD}/r:e@d %é?#{WORD}"
SQL_PASSWORD = f"{WORD}/s:q@l %é?#{WORD}"
KEY_PASSWORD = f"{WORD}-of-a-key-{WORD}"
WEB_TOKEN, READ_TOKEN = f"{WORD}-of-an-operator-{WORD}", f"{WORD}-of-a-reader-{WORD}"
TOKENS = {"EVENTBUS_WEB_TOKEN": WEB_TOKEN, "EVENTBUS_WEB_READ_TOKEN": READ_TOKEN}
HOOK_SECRET, HOOK_PASSWORD, HOOK_KEY = (f"{WORD}-of-a-{what}-{WORD}" for what in ("webhook", "receiver", "gateway"))
COLLECTOR_KEY = f"{WORD}-of-a-collector-{WORD}"
PAYLOAD = "TREASURE-in-a-payload"

_ONLY_WITH_A_PASSWORD = "host postgres postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"


@dataclass(frozen=True)
class Servers:
    """A Valkey and a PostgreSQL that want the planted passwords.

    Attributes:
        redis_port, sql_port: of 127.0.0.1. database: its name.
    """

    valkey: ValkeyServer
    postgres: PostgresServer
    redis_port: int
    sql_port: int
    database: str

    def redis(self, password: str = REDIS_PASSWORD, port: int = 0, database: object = 0) -> str:
        return f"redis://default:{quote(password, safe='')}@127.0.0.1:{port or self.redis_port}/{database}"

    def redis_by_query(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}/0?password={quote(REDIS_PASSWORD, safe='')}"

    def sql(self, password: str = SQL_PASSWORD, port: int = 0, database: str = "", query: str = "") -> str:
        where = f"127.0.0.1:{port or self.sql_port}/{database or self.database}"
        return f"postgres://bus:{quote(password, safe='')}@{where}?sslpassword={KEY_PASSWORD}{query}"

    def sql_by_query(self) -> str:
        asked = f"user=bus&password={quote(SQL_PASSWORD, safe='')}&sslpassword={KEY_PASSWORD}"
        return f"postgresql://127.0.0.1:{self.sql_port}/{self.database}?{asked}"

    def ways_in(self) -> dict[str, dict[str, str]]:
        """Return the variables of those who get in, by how the passwords are written."""
        return {
            "in the user's place": {"REDIS_URL": self.redis(), "DATABASE_URL": self.sql(), **TOKENS},
            "in the query": {"REDIS_URL": self.redis_by_query(), "DATABASE_URL": self.sql_by_query(), **TOKENS},
        }

    def ways_to_fail(self) -> dict[str, dict[str, str]]:
        """Return the variables of those who do not get in, by why."""
        good, away = {"REDIS_URL": self.redis(), "DATABASE_URL": self.sql(), **TOKENS}, free_port()
        raw, wrong = f"{WORD}[/?#@:%{WORD}", f"{WORD}-wrong-{WORD}"
        bad = {
            "redis is away": {"REDIS_URL": self.redis(port=away)},
            "redis refuses the password": {"REDIS_URL": self.redis(wrong)},
            "redis has no such database": {"REDIS_URL": self.redis(database=99)},
            "redis has no TLS": {"REDIS_URL": self.redis().replace("redis://", "rediss://")},
            "redis' URL has its password raw": {"REDIS_URL": f"redis://default:{raw}@127.0.0.1:{self.redis_port}/0"},
            "redis' URL has an unknown option": {"REDIS_URL": f"{self.redis()}?passwort={WORD}"},
            "redis' URL is none": {"REDIS_URL": f"http://someone:{WORD}@127.0.0.1"},
            "the database is away": {"DATABASE_URL": self.sql(port=away)},
            "the database refuses the password": {"DATABASE_URL": self.sql(wrong)},
            "the database refuses the query's password": {
                "DATABASE_URL": self.sql_by_query().replace(quote(SQL_PASSWORD, safe=""), wrong)
            },
            "there is no such database": {"DATABASE_URL": self.sql(database="nowhere")},
            "the database has no TLS": {"DATABASE_URL": self.sql(query="&sslmode=require")},
            "the database's URL has an unknown option": {"DATABASE_URL": self.sql(query=f"&passwort={WORD}")},
            "the database's URL has its password raw": {"DATABASE_URL": f"postgresql://bus:{raw}@127.0.0.1/x"},
            "the database's URL is none": {"DATABASE_URL": f"mysql://someone:{WORD}@127.0.0.1/x?password={WORD}"},
        }
        return {why: good | variables | {"EVENTBUS_TIMEOUT_S": "2"} for why, variables in bad.items()}


def servers() -> Servers:
    """Start both; the caller stops them."""
    with tempfile.TemporaryDirectory(prefix="eventbus-test-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user where the tests run as root
        rules = Path(folder) / "pg_hba.conf"
        rules.write_text(_ONLY_WITH_A_PASSWORD)
        postgres = PostgresServer({"hba_file": str(rules), "password_encryption": "scram-sha-256"}).start()
    postgres.execute(f"CREATE ROLE bus LOGIN SUPERUSER PASSWORD '{SQL_PASSWORD}'")
    url = postgres.create_database()
    valkey = ValkeyServer().start()
    with valkey.client() as client:
        client.config_set("requirepass", REDIS_PASSWORD)
    port = int(re.findall(r":(\d+)/", url)[0])
    return Servers(valkey, postgres, valkey.port, port, url.rpartition("/")[2])


def assert_hidden(said: str, *, payloads_too: bool = False) -> None:
    """Fail when a planted text is in what was said, in whatever encoding."""
    for word in (WORD, PAYLOAD) if payloads_too else (WORD,):
        for form in (word, word.encode().hex(), quote(word), *_in_base64(word)):
            place = said.find(form)
            assert place < 0, f"{form} is said: ...{said[max(0, place - 300) : place + 100]}"


def _in_base64(word: str) -> list[str]:
    """What of a word is the same in base64, whatever stands before and after it; one for each of three places."""
    found = []
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + word.encode()).decode().rstrip("=")
        found.append(encoded[-(-before * 8 // 6) : (before + len(word)) * 8 // 6])
    return found


def title_of(pid: int) -> str:
    """Return a process's title, as `ps` shows it."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def descendants(pid: int) -> list[int]:
    """Return the pids of a process's living children, and of theirs."""
    found = children(pid)
    return found + [below for child in found for below in descendants(child)]
