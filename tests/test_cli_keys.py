"""`plait keys`: a key is shown once, listed without it, and revoked."""

from __future__ import annotations

import asyncio
import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from plait.cli import keys as implementation
from plait.cli.commands import app
from plait.errors import InputError
from plait.store.service import ServiceStore
from plait.store.service.key_texts import digest_of, is_key
from tests.command import plait

NOW = datetime(2026, 11, 21, 16, tzinfo=UTC).timestamp()


def run(*words: str) -> None:
    """The command in this process, which takes a second less."""
    code: int = app(["keys", *words], standalone_mode=False)()
    assert code == 0


def service_file() -> Path:
    return Path(os.environ["PLAIT_HOME"]) / "service.db"


def test_a_key_is_shown_once_and_only_its_hash_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    limits = ["--rpm", "60", "--runs-per-day", "9", "--tokens-per-day", "1000", "--usd-per-day", "2.5"]
    made = plait("keys", "create", "front end", "--owner", "web", *limits, "--max-running", "4", "--expires", "30d")
    key = made.out.removesuffix("\n")
    assert (made.code, is_key(key)) == (0, True)
    assert (
        f"{key[:12]}... of web: 60 runs a minute, 9 runs a day, 1,000 tokens a day, $2.5 a day, 4 at once" in made.err
    )
    assert key not in made.err
    run("list", "--json")
    (found,) = json.loads(capsys.readouterr().out)
    until = datetime.fromisoformat(found["expires_at"]) - datetime.fromisoformat(found["created_at"])
    assert until == timedelta(days=30)
    del found["created_at"], found["expires_at"]
    assert found == {
        "key_id": key[:12],
        "name": "front end",
        "owner": "web",
        "status": "active",
        "revoked_at": None,
        "last_used_at": None,
        "limits": {
            "rpm": 60.0, "runs_per_day": 9, "tokens_per_day": 1000, "usd_per_day": 2.5, "max_running": 4,
        },
        "today": {"runs": 0, "tokens": 0, "usd": 0.0},
    }  # fmt: skip
    kept = b"".join(file.read_bytes() for file in service_file().parent.glob("service.db*"))
    assert digest_of(key).encode() in kept
    assert key.encode() not in kept
    assert service_file().stat().st_mode & 0o777 == 0o600


def test_a_revoked_key_is_listed_as_such_and_cannot_be_revoked_again(capsys: pytest.CaptureFixture[str]) -> None:
    def said(*words: str) -> tuple[str, str]:
        run(*words)
        return capsys.readouterr()

    first, second = said("create", "a")[0].strip(), said("create", "b")[0].strip()
    asyncio.run(use(second))
    assert said("revoke", first[:12]) == ("", f"revoked {first[:12]}\n")
    # The whole key tells its id as well.
    assert said("revoke", first) == ("", f"was revoked before: {first[:12]}\n")
    shown = "\n".join(line.strip() for line in said("list")[0].splitlines())
    assert re.fullmatch(
        rf"{second[:12]}  b\nactive, made \d+ s ago, never used\ntoday: 1 run, 2,000 tokens, \$0.500\n"
        rf"{first[:12]}  a\nrevoked, made \d+ s ago, never used",
        shown,
    )


async def use(key: str) -> None:
    async with ServiceStore(service_file()) as store:
        await store.keys.charge(key[:12], datetime.now(UTC).date().isoformat(), runs=1, tokens=2000, usd=0.5)


@pytest.mark.parametrize(
    "text",
    ["postgresql:/u:geheim@h/db", "postgres//h/db", "h:geheim@db", "host=h password=geheim", "redis://:geheim@h/0"],
)
def test_a_misspelt_dsn_does_not_become_a_file(text: str, tmp_path: Path) -> None:
    for command in (["keys", "list"], ["serve"]):
        ended = plait(*command, "--store", text, cwd=tmp_path)
        assert ended.code == 2
        assert "postgresql://..." in ended.err
        assert "geheim" not in ended.err
    assert list(tmp_path.iterdir()) == []


def test_without_keys_the_list_says_how_to_make_one(capsys: pytest.CaptureFixture[str]) -> None:
    run("list")
    assert capsys.readouterr().out == "there are no keys yet: plait keys create NAME makes one\n"
    run("list", "--json")
    assert capsys.readouterr().out == "[]\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", ""], "NAME: expected 1 to 100 printable characters, found ''"),
        (["create", "a\nb"], "NAME: expected 1 to 100 printable characters"),
        (["create", "a", "--owner", " "], "--owner: expected 1 to 100 printable characters"),
        (["create", "a", "--rpm", "0"], "--rpm: expected a number above 0, found 0"),
        (["create", "a", "--usd-per-day", "nan"], "--usd-per-day: expected a number above 0, found nan"),
        (["create", "a", "--tokens-per-day", str(2**63)], "--tokens-per-day: expected a number above 0"),
        (["create", "a", "--expires", "soon"], "--expires: expected a time such as 12h or 30d"),
        (["revoke", "plait_none"], "expected the id of a key, found 'plait_none': `plait keys list` shows the ids"),
    ],
)
def test_a_wrong_word_is_named_with_what_was_expected(words: list[str], said: str) -> None:
    with pytest.raises(InputError) as caught:
        run(*words)
    assert said in str(caught.value)


@pytest.mark.parametrize("most", ["many", "-1"])
def test_a_wrong_limit_ends_with_2_and_makes_no_key(most: str) -> None:
    ended = plait("keys", "create", "a", "--runs-per-day", most)
    assert (ended.code, ended.out) == (2, "")
    assert "--runs-per-day" in ended.err
    assert not service_file().exists()


def test_a_key_ends_after_a_time_or_with_a_day() -> None:
    def end_of(text: str) -> datetime:
        return datetime.fromtimestamp(implementation.end_of(text, NOW), UTC)

    assert end_of("12h") == datetime(2026, 11, 22, 4, tzinfo=UTC)
    assert end_of("30d") == datetime(2026, 12, 21, 16, tzinfo=UTC)
    assert end_of("2026-11-21") == datetime(2026, 11, 22, tzinfo=UTC)
    assert end_of("2027-02-28") == datetime(2027, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "0", "-1d", "2026-11-20", "2026-02-30", "9999-12-31", "9999999d", "1e9d", "tomorrow"]
)
def test_a_key_cannot_end_before_now_or_never(text: str) -> None:
    with pytest.raises(InputError, match="--expires: expected a"):
        implementation.end_of(text, NOW)
