"""Keeps what was asked, proved and tried in an SQLite file: nothing is asked or proved twice, and later runs learn from earlier ones.

Several processes may use one file. Where it cannot be written, what this run learns lasts as long as the run.
"""

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from extract.suggest import Fate, Gain, Outcome
from kernel_ir.errors import UsageError

VERSION: Final = 1
BUSY: Final = 30.0
"""Seconds to wait while another process writes."""
_TABLES: Final = {
    "answers": ("prompt", "model", "answer", "read", "written"),
    "proofs": ("rule", "prover", "holds", "refuted", "method", "why"),
    "tried": ("setting", "rule", "name", "suggested", "fate", "why", "admitted", "method", "gains", "source", "prompt"),
}
"""The columns of each table; the first two are its key."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the prover said of a rule; `why` is a counterexample where it is refuted."""

    holds: bool
    method: str = ""
    why: str = ""
    refuted: bool = False


def digest(*texts: str) -> str:
    """A short hash of texts: the same on every machine.

    >>> digest("a", "b")
    '59b271ae1bbcb1d3'
    """
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


@dataclass(slots=True)
class Database:
    """The file, open; `notes` says what a user should know of it."""

    path: Path | None
    notes: list[str] = field(default_factory=list[str])
    _connection: sqlite3.Connection = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            self._connection = _opened(self.path)
        except (sqlite3.OperationalError, OSError) as error:
            self.notes.append(f"{self.path} cannot be written ({error}): nothing of this run is remembered")
            self._connection = _copied(self.path)
        except sqlite3.DatabaseError as error:
            raise UsageError(f"{self.path} is no database of suggestions: {error}", hint="choose another file with --database") from None

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def answer(self, prompt: str, model: str) -> str | None:
        """What the model answered to this prompt before."""
        row = self._connection.execute("SELECT answer FROM answers WHERE prompt = ? AND model = ?", (prompt, model)).fetchone()
        return None if row is None else str(row[0])

    def answered(self, prompt: str, model: str, answer: str, read: int, written: int) -> None:
        """Remembers an answer, and the tokens that it cost."""
        self._write("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?)", (prompt, model, answer, read, written))

    def proof(self, rule: str, prover: str) -> Proof | None:
        """What this version of the prover said of the rule (its canonical text)."""
        columns = ", ".join(_TABLES["proofs"][2:])
        found = self._connection.execute(f"SELECT {columns} FROM proofs WHERE rule = ? AND prover = ?", (rule, prover)).fetchone()
        if found is None:
            return None
        holds, refuted, method, why = found
        return Proof(bool(holds), str(method), str(why), bool(refuted))

    def proved(self, rule: str, prover: str, proof: Proof) -> None:
        """Remembers a proof, or a refutation."""
        row = (rule, prover, int(proof.holds), int(proof.refuted), proof.method, proof.why)
        self._write("INSERT OR REPLACE INTO proofs VALUES (?, ?, ?, ?, ?, ?)", row)

    def outcome(self, setting: str, rule: str) -> Outcome | None:
        """What became of the rule in this setting (kernels, flags, target, book)."""
        found = self._connection.execute(f"SELECT {_COLUMNS} FROM tried WHERE setting = ? AND rule = ?", (setting, rule)).fetchone()
        return None if found is None else _outcome(found)

    def outcomes(self, setting: str) -> tuple[Outcome, ...]:
        """Everything tried in this setting, in the order in which it was tried."""
        rows = self._connection.execute(f"SELECT {_COLUMNS} FROM tried WHERE setting = ? ORDER BY rowid", (setting,)).fetchall()
        return tuple(_outcome(row) for row in rows)

    def best(self) -> tuple[Outcome, ...]:
        """Every rule that was kept, in whatever setting."""
        rows = self._connection.execute(f"SELECT {_COLUMNS} FROM tried WHERE fate = ? ORDER BY rowid", (Fate.KEPT.name,)).fetchall()
        return tuple(_outcome(row) for row in rows)

    def tried(self, setting: str, rule: str, o: Outcome) -> None:
        """Remembers what became of a suggestion."""
        gains = json.dumps([[g.kernel, g.before, g.after, g.unit] for g in o.gains])
        row = (setting, rule, o.name, o.suggested, o.fate.name, o.why, o.admitted, o.method, gains, o.source, o.prompt)
        self._write(f"INSERT OR REPLACE INTO tried VALUES ({', '.join('?' * len(row))})", row)

    def _write(self, statement: str, row: Sequence[object]) -> None:
        try:
            with self._connection:
                self._connection.execute(statement, row)
        except sqlite3.OperationalError as error:  # the disk is full, or the file became read-only: the run goes on
            note = f"{self.path}: {error}; what follows is not remembered"
            if note not in self.notes:
                self.notes.append(note)


_COLUMNS: Final = ", ".join(_TABLES["tried"][2:])


def _outcome(row: Sequence[str]) -> Outcome:
    name, suggested, fate, why, admitted, method, gains, source, prompt = row
    return Outcome(name, suggested, Fate[fate], why, admitted, method, tuple(Gain(*g) for g in json.loads(gains)), source, prompt)


def _opened(path: Path | None) -> sqlite3.Connection:
    """The database, its tables made; in memory where there is no path."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(":memory:" if path is None else path, timeout=BUSY)
    try:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY * 1000)}")
        _write_ahead(connection)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, VERSION):
            raise UsageError(f"{path} was written by another version of kir", hint="choose another file with --database")
        if not version:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                for table, columns in _TABLES.items():
                    connection.execute(f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(columns)}, PRIMARY KEY ({', '.join(columns[:2])}))")
                connection.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        connection.close()
        raise
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Readers do not wait for a writer, where the file system can do that; the default is slower and as safe."""
    for _ in range(50):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            time.sleep(0.02)  # to change the mode does not wait by itself for another process that does the same


def _copied(path: Path | None) -> sqlite3.Connection:
    """A database in memory, with what is in the file, as far as that can be read."""
    memory = _opened(None)
    if path is not None and path.exists():
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?immutable=1", uri=True)) as file,
        ):
            file.backup(memory)
    return memory


@contextmanager
def opened(path: Path | None) -> Generator[Database]:
    """The database, closed at the end."""
    database = Database(path)
    try:
        yield database
    finally:
        database.close()
