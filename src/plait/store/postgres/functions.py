"""What SQLite has and PostgreSQL lacks, as functions of the database: json_each over text, and numbers as they compare.

`plait_each(text)` gives the members of a JSON object or list as SQLite's json_each does, in the columns that
store.service.conditions asks for; `atom_number` is the number of one, and `plait_number` makes a float of Python's
comparable with it. What PostgreSQL holds in no text (half a surrogate pair, a NUL) is read as U+FFFE, a character that
no filter may ask for. json and not jsonb: only that one tells 1e18 from 1000000000000000000.
"""

from __future__ import annotations

from plait.store.connections import Connection
from plait.store.postgres.sessions import Session

__all__ = ["define"]

_JSON = r"""
CREATE OR REPLACE FUNCTION plait_json(content text) RETURNS json LANGUAGE plpgsql IMMUTABLE STRICT AS $plait$
DECLARE
    plain text;
BEGIN
    IF content !~* '\\u(d|0000)' THEN
        RETURN content::json;
    END IF;
    -- Escaped backslashes are set aside: "\\ud800" is no surrogate.
    plain := replace(content, '\\', chr(1));
    plain := regexp_replace(plain, '\\u0000', '\\ufffe', 'g');
    plain := regexp_replace(plain, '\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})', '\\ufffe', 'gi');
    plain := regexp_replace(plain, '(?<!\\ud[89ab][0-9a-f]{2})\\ud[c-f][0-9a-f]{2}', '\\ufffe', 'gi');
    RETURN replace(plain, chr(1), '\\')::json;
END $plait$
"""
# SQLite compares whole numbers of 64 bits exactly, all others as floats.
_NUMBER = """
CREATE OR REPLACE FUNCTION plait_number(value double precision) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT AS $plait$
SELECT CASE WHEN abs(value) < 9223372036854775808 AND value = trunc(value) THEN value::int8::numeric
ELSE value::text::numeric END
$plait$
"""
_COMPARABLE = """
CREATE OR REPLACE FUNCTION plait_comparable(literal text) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT AS $plait$
SELECT CASE
WHEN literal ~ '^-?[0-9]+$' AND abs(literal::numeric) < 9223372036854775808 THEN literal::numeric
WHEN abs(literal::numeric) > 1.7976931348623157e308 THEN sign(literal::numeric) * 'Infinity'::numeric
ELSE plait_number(literal::double precision) END
$plait$
"""
_MEMBER = """
CREATE OR REPLACE FUNCTION plait_member(
    member json, OUT value text, OUT type text, OUT atom text, OUT atom_number numeric
) LANGUAGE plpgsql IMMUTABLE AS $plait$
BEGIN
    type := json_typeof(member);
    value := member #>> '{}';
    IF type = 'object' OR type = 'array' THEN
        RETURN;
    END IF;
    atom := value;
    IF type = 'number' THEN
        type := 'integer';
        atom_number := plait_comparable(value);
    ELSIF type = 'string' THEN
        type := 'text';
    ELSIF type = 'boolean' THEN
        type := value;
    END IF;
END $plait$
"""
_EACH = """
CREATE OR REPLACE FUNCTION plait_each(content text)
RETURNS TABLE (key text, value text, type text, atom text, atom_number numeric)
LANGUAGE plpgsql IMMUTABLE AS $plait$
DECLARE
    found json := plait_json(content);
BEGIN
    IF json_typeof(found) = 'object' THEN
        RETURN QUERY SELECT each.key, member.* FROM json_each(found) AS each, plait_member(each.value) AS member;
    ELSIF json_typeof(found) = 'array' THEN
        RETURN QUERY SELECT NULL::text, member.*
        FROM json_array_elements(found) AS each, plait_member(each.value) AS member;
    END IF;
END $plait$
"""


def define(connection: Connection) -> None:
    """Make the functions, in the caller's transaction."""
    assert isinstance(connection, Session)
    for statement in (_JSON, _NUMBER, _COMPARABLE, _MEMBER, _EACH):
        # Not translated: json_each is PostgreSQL's own in them.
        connection.raw.execute(statement.encode())
