"""What a message that was refused at the door gets when it is let in after all: key, dedupe, tracked values, precedence."""

from __future__ import annotations

from esb.errors import KeyTaken
from esb.store.accept import owner_of, supersede, take
from esb.store.base import NewMessage
from esb.store.values import dump, id_of, load, mid_of
from esb.store.writer import Writer


def admit(writer: Writer, seq: int, route: int, new: NewMessage, at: int) -> tuple[int, ...]:
    """Write what the rules of the route make of a dead message, in the transaction that queues it; gives what it overtook.

    Raises KeyTaken where another message has its dedupe key: a second effect is what the key is there to prevent.
    """
    envelope = new.envelope
    if new.dedupe is not None and not take(writer, route, new.dedupe, seq, mid_of(envelope.id), at):
        owner, mid, _ = owner_of(writer, route, new.dedupe)
        if owner != seq:
            raise KeyTaken("" if mid is None else id_of(mid))
    scope, track = writer.execute("SELECT scope, track FROM message WHERE seq = ?", (seq,)).fetchone()
    for name, value in load(track).items():
        writer.execute("DELETE FROM track WHERE value = ? AND name = ? AND seq = ?", (value, name, seq))
    for name, value in envelope.track.items():
        writer.execute("INSERT INTO track (value, name, seq) VALUES (?, ?, ?)", (value, name, seq))
    writer.execute(
        "UPDATE message SET key = ?, track = ?, overtakes = ? WHERE seq = ?",
        (envelope.key, dump(envelope.track), int(envelope.overtakes), seq),
    )
    if envelope.overtakes and envelope.key is not None:
        return supersede(writer, (route, scope, envelope.key), seq, envelope.id, at)
    return ()
