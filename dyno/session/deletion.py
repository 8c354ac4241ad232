"""A delete without a context: read, then delete what was read.

    get ──▶ nothing was ever written ──▶ done
     └────▶ delete with the context of the record ──▶ done

Because the context is read once, by whoever deletes, the delete can be sent again as often as it takes: it
covers the same values each time, and none that came since.

In: a delete that still lacks its context, and the get that finds it. Out: one call that ends as a delete
does; both steps have the time of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dyno.errors import DynoError
from dyno.session.calls import Call
from dyno.session.results import Origin, PutResult, Record
from dyno.wire.messages import Delete

if TYPE_CHECKING:
    from dyno.session.outbox import SessionOutbox
    from dyno.session.session import Session


class Deletion(Call):
    """A call made of two; begun by `start`. get, delete: not begun yet, with the same deadline."""

    __slots__ = ("_delete", "_part", "_session")

    def __init__(self, session: Session, *, get: Call, delete: Call) -> None:
        super().__init__(session.requests.next_id(), None, bucket=b"", deadline=delete.deadline, weight=0)
        self._session = session
        self._part = get
        self._delete = delete

    def start(self, now: float, out: SessionOutbox) -> None:
        """Raises what `Session.begin` raises."""
        self._part.parent = self
        self._session.begin(self._part, now, out)

    def ended(self, part: Call, now: float, out: SessionOutbox) -> None:
        """One of the two has its result or its error."""
        try:
            if part.error is not None:
                raise part.error
            if isinstance(part.result, Record) and part.result.context:
                self._go_on(part.result, now, out)
                return
            self.result = self._nothing(part.result) if isinstance(part.result, Record) else part.result
        except DynoError as error:
            self.error = error
        out.finished.append(self)

    def cancel(self, now: float, out: SessionOutbox) -> None:
        """Nobody waits for it any more."""
        self._session.cancel(self._part, now, out)

    def _go_on(self, read: Record, now: float, out: SessionOutbox) -> None:
        delete = self._part = self._delete
        assert isinstance(delete.request, Delete)
        delete.request = delete.request._replace(context=read.context)
        delete.weight += len(read.context)
        delete.parent = self
        delete.trim(now)
        self._session.begin(delete, now, out)

    def _nothing(self, read: Record) -> PutResult:
        """Of a delete that has nothing to delete."""
        request = self._delete.request
        assert isinstance(request, Delete)
        answered, fallbacks = (",".join(names) for names in read.replicas)
        return PutResult(b"", Origin(self._session.cluster, request.bucket, request.key), answered, fallbacks)
