"""What differs between databases: paging, row locks, upserts, the ledger of deliveries. Texts only, no connection."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: a name that may stand in SQL as it is; a schema may stand before it
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$#]*(?:\.[A-Za-z_][A-Za-z0-9_$#]*)?")
#: ``:name``, but neither ``::type`` nor a time
BIND = re.compile(r"(?<![:\w\\]):([A-Za-z_]\w*)(?![:\w])")
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)

#: drivers by the scheme of the address: scheme → (extra of the distribution, dialect)
DRIVERS = {
    "sqlite": ("", "sqlite"),
    "postgresql+psycopg": ("postgres", "postgresql"),
    "mysql+pymysql": ("mysql", "mysql"),
    "mariadb+pymysql": ("mysql", "mysql"),
    "mssql+pyodbc": ("sqlserver", "mssql"),
    "oracle+oracledb": ("oracle", "oracle"),
}
#: mark of a connection whose transactions only read
READS = "esb_reads"
_SKIP_LOCKED = frozenset({"postgresql", "mysql"})


def binds(statement: str) -> list[str]:
    """The names of the bound parameters, without those in quotes and comments."""
    return list(dict.fromkeys(BIND.findall(_QUOTED.sub(" ", statement))))


def escaped(statement: str) -> str:
    """The statement for SQLAlchemy, which takes ``:name`` for a parameter in quotes and comments, too."""
    return _QUOTED.sub(lambda found: re.sub(r"(?<!\\):", r"\\:", found[0]), statement)


def limited(dialect: str, query: str) -> str:
    """``query`` with at most ``:esb_batch`` rows; it has its ORDER BY already."""
    if dialect in ("mssql", "oracle"):
        return f"{query} offset 0 rows fetch next :esb_batch rows only"
    return f"{query} limit :esb_batch"


def page(dialect: str, query: str, column: str, tie: str, *, start: str, snapshot: bool = False) -> str:
    """The next page of a watermark query.

    ``start``: ``first`` (no watermark yet), ``from`` (the overlap, its first instant included) or ``after`` (keyset).
    ``snapshot``: nothing of a transaction that still runs (PostgreSQL; the column is an ``xid8``).
    """
    mark = "cast(:esb_mark as xid8)" if snapshot else ":esb_mark"
    conditions = {
        "first": f"{column} is not null",
        "from": f"{column} >= {mark}",
        # the first comparison says nothing new, but an index is used for it where it is not for an `or`
        "after": f"{column} >= {mark} and ({column} > {mark} or {tie} > :esb_tie)",
    }[start]
    if snapshot:
        conditions += f" and {column} < pg_snapshot_xmin(pg_current_snapshot())"
    alias = "esb_rows" if dialect == "oracle" else "as esb_rows"
    inner = query.strip().rstrip(";")
    return limited(dialect, f"select * from ({inner}) {alias} where {conditions} order by {column}, {tie}")


def locked(dialect: str, query: str) -> str:
    """A query whose rows are held until they are marked, where the database can do that."""
    inner = query.strip().rstrip(";")
    words = _QUOTED.sub(" ", inner).lower()
    if not re.search(r"\blimit\b|\bfetch\s+(?:first|next)\b|\btop\b", words):
        inner = limited(dialect, inner if "order by" in words or dialect != "mssql" else f"{inner} order by 1")
    if dialect in _SKIP_LOCKED and not re.search(r"\bfor\s+update\b", words):
        inner += " for update skip locked"
    return inner


def outbox(table: str, identity: str) -> tuple[str, str]:
    """The query and the deletion of an outbox table."""
    return f"select * from {table} order by {identity}", f"delete from {table} where {identity} = :{identity}"


def upsert(dialect: str, table: str, columns: Sequence[str], key: Sequence[str], sequence: str = "") -> str:
    """Insert or update by ``key``; with ``sequence`` only where the new row's is greater (a late repeat changes nothing)."""
    others = [name for name in columns if name not in key]
    if dialect in ("mssql", "oracle"):
        return _merge(dialect, table, columns, key, others, sequence)
    insert = f"insert into {table} ({', '.join(columns)}) values ({', '.join(':' + name for name in columns)})"
    if dialect == "mysql":
        newer = (
            f"if(values({sequence}) > {table}.{sequence}, values({{0}}), {table}.{{0}})" if sequence else "values({0})"
        )
        # the sequence itself is set last: MySQL sees earlier assignments in later ones
        ordered = sorted(others, key=lambda name: name == sequence)
        sets = [f"{name} = {newer.format(name)}" for name in ordered] or [f"{key[0]} = {key[0]}"]
        return f"{insert} on duplicate key update {', '.join(sets)}"
    if not others:
        return f"{insert} on conflict ({', '.join(key)}) do nothing"
    sets = [f"{name} = excluded.{name}" for name in others]
    guard = f" where {table}.{sequence} < excluded.{sequence}" if sequence else ""
    return f"{insert} on conflict ({', '.join(key)}) do update set {', '.join(sets)}{guard}"


def _merge(
    dialect: str, table: str, columns: Sequence[str], key: Sequence[str], others: Sequence[str], sequence: str
) -> str:
    dual = " from dual" if dialect == "oracle" else ""
    lock = " with (holdlock)" if dialect == "mssql" else ""
    source = ", ".join(f":{name} as {name}" for name in columns)
    on = " and ".join(f"t.{name} = s.{name}" for name in key)
    guard = f"t.{sequence} < s.{sequence}" if sequence else ""
    update = ", ".join(f"t.{name} = s.{name}" for name in others)
    text = f"merge into {table}{lock} t using (select {source}{dual}) s on ({on})"
    if update:
        matched = f" and {guard}" if guard and dialect == "mssql" else ""
        where = f" where {guard}" if guard and dialect == "oracle" else ""
        text += f" when matched{matched} then update set {update}{where}"
    values = ", ".join(f"s.{name}" for name in columns)
    text += f" when not matched then insert ({', '.join(columns)}) values ({values})"
    return text + (";" if dialect == "mssql" else "")


LEDGER = "esb_applied"


def ledger_table(dialect: str) -> str:
    """The table of deliveries that had their effect; made when it is missing."""
    text = {"oracle": "varchar2(80)"}.get(dialect, "varchar(80)")
    create = f"create table {LEDGER} (delivery_id {text} primary key, applied_at timestamp default current_timestamp)"
    if dialect == "mssql":
        return f"if object_id('{LEDGER}') is null {create.replace(' timestamp ', ' datetime2 ')}"
    if dialect == "oracle":
        return create
    return create.replace("create table", "create table if not exists")


def ledger_entry(dialect: str) -> str:
    """Take a delivery id; no row changed means that it had its effect before."""
    values = f"insert into {LEDGER} (delivery_id)"
    if dialect in ("mssql", "oracle"):
        dual = " from dual" if dialect == "oracle" else ""
        return f"{values} select :esb_delivery{dual} where not exists (select 1 from {LEDGER} where delivery_id = :esb_delivery)"
    if dialect == "mysql":
        return f"insert ignore into {LEDGER} (delivery_id) values (:esb_delivery)"
    return f"{values} values (:esb_delivery) on conflict do nothing"
