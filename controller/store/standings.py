"""How each app stood in the watched directory, for a restart while its file is broken."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, select

from controller.plan.situation import Standing
from controller.store.codec import decode, encode
from controller.store.schema import StandingRow
from controller.store.statements import put_row
from controller.store.thread import StoreThread, Transaction


class Standings:
    """The last known standing of every app."""

    def __init__(self, thread: StoreThread) -> None:
        self._thread = thread
        self._texts: dict[str, tuple[str, int]] = {}
        thread.on_open(self._read_all)

    def save(self, standing: Standing, change: int) -> None:
        """Keep *standing*, seen by the look with number *change*; the same one again writes nothing."""
        text = encode(standing)
        if self._texts.get(standing.app, ("", 0))[0] != text:
            self._thread.call(lambda tx: self._save(tx, standing.app, text, change))

    def load(self) -> Mapping[str, Standing]:
        """Return what was kept, by app."""
        return {app: decode(Standing, text) for app, (text, _) in sorted(self._texts.copy().items())}

    def drop(self, app: str) -> None:
        """Forget how a removed app stood."""
        if app in self._texts:
            self._thread.call(lambda tx: self._drop(tx, app))

    def _read_all(self, tx: Transaction) -> None:
        rows = tx.connection.execute(select(StandingRow.app, StandingRow.document, StandingRow.change))
        texts = {app: (text, change) for app, text, change in rows}
        tx.afterwards(lambda: self._replace_all(texts))

    def _replace_all(self, texts: dict[str, tuple[str, int]]) -> None:
        self._texts = texts

    def _save(self, tx: Transaction, app: str, text: str, change: int) -> None:
        values = {"app": app, "change": change, "document": text}
        tx.connection.execute(put_row(StandingRow), values)
        tx.afterwards(lambda: self._texts.__setitem__(app, (text, change)))

    def _drop(self, tx: Transaction, app: str) -> None:
        tx.connection.execute(delete(StandingRow).where(StandingRow.app == app))
        tx.afterwards(lambda: self._forget(app))

    def _forget(self, app: str) -> None:
        self._texts.pop(app, None)
