"""What endpoints say about their limits, in each one's own dialect."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.flow.headers import DAY_S, MINUTE_S, Advice, Reading, read_advice, retry_after_s, why_refused

WALL = datetime(2026, 3, 4, 12, 0, 0, tzinfo=UTC).timestamp()


def read(**values: str) -> Advice:
    advice = read_advice({name.replace("_", "-"): text for name, text in values.items()}, WALL)
    assert advice is not None
    return advice


def minute(limit: float | None, remaining: float | None, reset_s: Any) -> Reading:
    return Reading(limit, remaining, reset_s, MINUTE_S)


def day(limit: float | None, remaining: float | None, reset_s: Any) -> Reading:
    return Reading(limit, remaining, reset_s, DAY_S)


def test_openai_tells_requests_and_tokens_a_minute() -> None:
    headers = httpx2.Headers(
        {
            "X-RateLimit-Limit-Requests": "5000",
            "X-RateLimit-Remaining-Requests": "4999",
            "X-RateLimit-Reset-Requests": "12ms",
            "X-RateLimit-Limit-Tokens": "160000",
            "X-RateLimit-Remaining-Tokens": "159976",
            "X-RateLimit-Reset-Tokens": "8ms",
        }
    )
    expected = Advice(minute(5000, 4999, 0.012), minute(160_000, 159_976, 0.008), None, None)
    assert read_advice(headers, WALL) == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("120ms", 0.12),
        ("1m30s", 90),
        ("59.5s", 59.5),
        ("11.38", 11.38),
        ("1ms500us", 0.0015),
        ("6 m", None),
        ("s", None),
        ("-1s", None),
        ("1s!", None),
        ("9" * 50 + "s", None),
    ],
)
def test_periods_are_read_as_go_writes_them(text: str, seconds: float | None) -> None:
    advice = read(x_ratelimit_limit_tokens="10", x_ratelimit_reset_tokens=text)
    assert advice.tokens == minute(10, None, None if seconds is None else pytest.approx(seconds))


def test_a_reset_that_no_minute_can_have_is_left_out() -> None:
    # the example of OpenAI's own page
    advice = read(
        x_ratelimit_limit_tokens="150000", x_ratelimit_remaining_tokens="149984", x_ratelimit_reset_tokens="6m0s"
    )
    assert advice.tokens == minute(150_000, 149_984, None)


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "daily"),
    [
        ("200", "199", "7m12s", True),  # OpenAI, 200 a day
        ("10000", "9999", "8.64s", True),  # OpenAI, 10000 a day
        ("14400", "14370", "2m59.56s", True),  # the example of Groq's own page
        ("60", "59", "1s", False),
        ("500", "0", "1m0s", False),
        ("500", "0", "3h2m1s", True),
        ("500", "500", "0s", False),
        ("1440", "1439", "60", False),  # a counter of seconds until its minute is over
    ],
)
def test_requests_a_day_are_told_by_how_long_they_take_to_refill(
    limit: str, remaining: str, reset: str, daily: bool
) -> None:
    advice = read(
        x_ratelimit_limit_requests=limit, x_ratelimit_remaining_requests=remaining, x_ratelimit_reset_requests=reset
    )
    assert (advice.requests is None, advice.requests_day is not None) == (daily, daily)


def test_groq_counts_requests_by_day_and_tokens_by_minute() -> None:
    advice = read(
        x_groq_region="fra",
        x_ratelimit_limit_requests="1000",
        x_ratelimit_remaining_requests="1000",
        x_ratelimit_reset_requests="0s",
        x_ratelimit_limit_tokens="8000",
        x_ratelimit_remaining_tokens="7500",
        x_ratelimit_reset_tokens="400ms",
    )
    assert advice == Advice(None, minute(8000, 7500, 0.4), day(1000, 1000, 0), None)


def test_azure_tells_what_remains_only() -> None:
    advice = read(x_ratelimit_remaining_requests="19", x_ratelimit_remaining_tokens="19913")
    assert advice == Advice(minute(None, 19, None), minute(None, 19_913, None), None, None)


def test_anthropic_tells_times() -> None:
    advice = read(
        anthropic_ratelimit_requests_limit="50",
        anthropic_ratelimit_requests_remaining="49",
        anthropic_ratelimit_requests_reset="2026-03-04T12:00:30Z",
        anthropic_ratelimit_tokens_limit="80000",
        anthropic_ratelimit_tokens_remaining="79000",
        anthropic_ratelimit_tokens_reset="2026-03-04T11:59:59Z",
        anthropic_ratelimit_input_tokens_limit="1",
    )
    assert advice == Advice(minute(50, 49, 30), minute(80_000, 79_000, 0), None, None)


def test_anthropics_input_and_output_are_summed_and_either_one_spent_is_all_spent() -> None:
    parts = {
        "anthropic_ratelimit_input_tokens_limit": "40000",
        "anthropic_ratelimit_input_tokens_remaining": "39000",
        "anthropic_ratelimit_input_tokens_reset": "2026-03-04T12:00:02Z",
        "anthropic_ratelimit_output_tokens_limit": "8000",
        "anthropic_ratelimit_output_tokens_reset": "2026-03-04T12:00:40Z",
    }
    assert read(**parts, anthropic_ratelimit_output_tokens_remaining="7000").tokens == minute(48_000, 46_000, 40)
    assert read(**parts, anthropic_ratelimit_output_tokens_remaining="0").tokens == minute(48_000, 0, 40)


def test_windows_in_the_name_are_believed() -> None:
    cerebras = read(
        x_ratelimit_limit_requests_day="14400",
        x_ratelimit_remaining_requests_day="14399",
        x_ratelimit_reset_requests_day="33011.382867097855",
        x_ratelimit_limit_tokens_minute="60000",
        x_ratelimit_remaining_tokens_minute="59000",
        x_ratelimit_reset_tokens_minute="11.382867097854614",
        x_ratelimit_limit_requests_hour="900",
    )
    assert cerebras.requests_day == day(14_400, 14_399, pytest.approx(33_011.38, abs=0.01))
    assert cerebras.tokens == minute(60_000, 59_000, pytest.approx(11.38, abs=0.01))
    assert cerebras.requests is None
    mistral = read(x_ratelimit_limit_req_minute="720", x_ratelimit_remaining_req_minute="717")
    assert mistral.requests == minute(720, 717, None)
    digitalocean = read(
        x_ratelimit_limit_tokens_per_day="1000000", x_ratelimit_reset_tokens_per_day=str(int(WALL) + 3600)
    )
    assert digitalocean.tokens_day == day(1_000_000, None, 3600)


def test_openrouter_tells_milliseconds_since_the_epoch() -> None:
    def reading(reset_in_s: float) -> Advice:
        return read(
            x_ratelimit_limit="50",
            x_ratelimit_remaining="0",
            x_ratelimit_reset=str(int((WALL + reset_in_s) * 1000)),
        )

    assert reading(30) == Advice(minute(50, 0, 30), None, None, None)
    assert reading(7200) == Advice(None, None, day(50, 0, 7200), None)


def test_limits_of_no_known_window_are_not_believed() -> None:
    assert (
        read_advice({"x-ratelimit-limit": "10", "x-ratelimit-remaining": "9", "x-ratelimit-reset": "1"}, WALL) is None
    )
    assert read_advice({"x-ratelimit-limit-requests-hour": "10"}, WALL) is None
    assert read_advice({"ratelimit-limit": "5000", "ratelimit-remaining": "1", "ratelimit-reset": "3000"}, WALL) is None


@pytest.mark.parametrize(
    ("headers", "advice"),
    [
        (
            {"ratelimit-policy": '"b";q=100;w=60,"d";q=1000;w=86400', "ratelimit": '"d";r=12;t=3000, "b";r=50;t=30'},
            Advice(minute(100, 50, 30), None, day(1000, 12, 3000), None),
        ),
        (
            {"ratelimit-policy": '"b";q=5;w=10', "ratelimit": '"b";r=4;t=7'},
            Advice(minute(30, 4, 7), None, None, None),
        ),
        (
            {"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": "50", "ratelimit-reset": "5"},
            Advice(minute(100, 50, 5), None, None, None),
        ),
        (
            {"ratelimit-limit": "10", "ratelimit-policy": "10;w=1, 50;w=60", "ratelimit-remaining": "9"},
            Advice(minute(600, 9, None), None, None, None),
        ),
        (
            {"ratelimit-limit": "300", "ratelimit-remaining": "280", "ratelimit-reset": "53"},
            Advice(minute(300, 280, 53), None, None, None),
        ),
        ({"ratelimit-policy": '"b";q=9;w=60;qu="content-bytes"', "ratelimit": '"b";r=1'}, None),
        ({"ratelimit": "limit=100, remaining=50, reset=50"}, None),
    ],
)
def test_the_ietf_draft_is_read_in_both_its_forms(headers: dict[str, str], advice: Advice | None) -> None:
    assert read_advice(headers, WALL) == advice


@pytest.mark.parametrize("text", ["nan", "inf", "-5", "", "lots", "1e400", "99999999999999999999", "5, 6"])
def test_nonsense_is_left_out_value_by_value(text: str) -> None:
    advice = read(x_ratelimit_limit_requests=text, x_ratelimit_remaining_requests="7", x_ratelimit_reset_requests=text)
    assert advice.requests == minute(None, 7, None)


def test_a_limit_of_zero_is_none() -> None:
    assert read_advice({"x-ratelimit-limit-tokens": "0", "x-ratelimit-remaining-tokens": "0"}, WALL) is None


def test_nothing_said_is_no_advice() -> None:
    assert read_advice({}, WALL) is None
    assert read_advice(httpx2.Headers({"content-type": "application/json", "retry-after": "3"}), WALL) is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "86400"}, 86_400),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "Wed, 04 Mar 2026 12:00:07 GMT"}, 7),
        ({"retry-after": "Fri, 06 Mar 2026 12:00:00 GMT"}, 2 * DAY_S),
        ({"retry-after": "Wed, 04 Mar 2026 11:00:00 GMT"}, 0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e12"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({}, None),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "12"}, 12),
        ({"ratelimit-remaining": "1", "ratelimit-reset": "12"}, None),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(WALL + 5) * 1000)}, 5),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "5"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m0s"}, None),
    ],
)
def test_the_wait_is_the_one_asked_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, WALL) == seconds


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("requests", "Rate limit reached for gpt-4 in organization org-x on requests per min (RPM): Limit 3, Used 3"),
        ("tokens", "Rate limit reached for m on tokens per min (TPM): Limit 40000, Used 39000, Requested 4351."),
        ("day", "Rate limit reached for m on requests per day (RPD): Limit 200, Used 200, Requested 1."),
        ("day", "Rate limit reached for m on tokens per day (TPD): Limit 500000"),
        ("tokens", '{"error": {"message": "Rate limit reached", "type": "tokens", "code": "rate_limit_exceeded"}}'),
        ("tokens", "Number of request tokens has exceeded your per-minute rate limit"),
        ("requests", "Number of requests has exceeded your per-minute rate limit"),
        ("tokens", "This request would exceed your organization's rate limit of 40,000 input tokens per minute"),
        ("requests", "This request would exceed your organization's rate limit of 50 requests per minute"),
        ("concurrency", "Number of concurrent connections has exceeded your rate limit"),
        ("concurrency", '{"error":{"code":"concurrent_request_limit_exceeded"}}'),
        ("tokens", "Requests to the ChatCompletions_Create Operation have exceeded token rate limit of your tier"),
        ("requests", "Requests to the Embeddings_Create Operation have exceeded call rate limit of your tier"),
        ("overload", "The engine is currently overloaded, please try again later"),
        ("overload", "The system is currently experiencing high demand and cannot process your request."),
        ("requests", '{"message":"Requests rate limit exceeded"}'),
        ("tokens", "ThrottlingException: Too many tokens, please wait before trying again."),
        ("day", "ThrottlingException: Too many tokens per day, please wait before trying again."),
        ("requests", "ThrottlingException: Too many requests, please wait before trying again."),
        ("tokens", '{"quotaId": "GenerateContentInputTokensPerModelPerMinute-FreeTier"}'),
        ("requests", '{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}'),
        ("day", '{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}'),
        ("unknown", '{"object":"error","message":"Rate limit exceeded","type":"rate_limited","code":"1300"}'),
        ("unknown", "Too Many Requests"),
        ("unknown", ""),
    ],
)
def test_a_refusals_words_tell_what_it_is_about(kind: str, body: str) -> None:
    assert why_refused(429, {}, body.encode()) == kind


def test_a_refusals_headers_tell_what_is_spent_where_words_do_not() -> None:
    assert why_refused(503, {}, b"") == why_refused(529, {}, b"") == "overload"
    spent = {"x-ratelimit-limit-tokens": "9", "x-ratelimit-remaining-tokens": "0"}
    assert why_refused(429, spent, b"slow down") == "tokens"
    assert why_refused(429, {"x-ratelimit-remaining-requests": "0"}, b"") == "requests"
    assert why_refused(429, {**spent, "x-ratelimit-remaining-requests-day": "0"}, b"") == "day"
    assert why_refused(429, {"x-ratelimit-remaining-requests": "3"}, b"") == "unknown"


def test_a_huge_body_is_read_at_its_beginning() -> None:
    assert why_refused(429, {}, b"\xff\x00" * 10_000_000 + b"tokens per min") == "unknown"


NAMES = st.sampled_from(
    [
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
        "x-ratelimit-limit-requests-day",
        "x-ratelimit-reset-requests-day",
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "anthropic-ratelimit-tokens-reset",
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-output-tokens-remaining",
        "ratelimit",
        "ratelimit-policy",
        "ratelimit-limit",
        "ratelimit-remaining",
        "ratelimit-reset",
        "retry-after",
        "retry-after-ms",
    ]
)
VALUES = st.one_of(
    st.text(max_size=60),
    st.floats().map(str),
    st.integers().map(str),
    st.datetimes().map(lambda date: date.isoformat() + "Z"),
    st.text("0123456789.smhd ", max_size=20),
    st.text('"ab;,=qrtwu0123456789. ', max_size=60),
    st.builds('"a";q={};w={};r={};t={}'.format, st.integers(), st.floats(), st.integers(), st.floats()),
)


@given(st.dictionaries(NAMES, VALUES), st.floats(0, 1e11), st.binary(max_size=200))
def test_nothing_that_an_endpoint_sends_breaks_the_reading(headers: dict[str, str], wall: float, body: bytes) -> None:
    advice = read_advice(headers, wall)
    for reading in (advice.requests, advice.tokens, advice.requests_day, advice.tokens_day) if advice else ():
        if reading is not None:
            assert reading.window_s in {MINUTE_S, DAY_S}
            assert reading.limit is None or 0 < reading.limit <= 1e15
            assert reading.remaining is None or 0 <= reading.remaining <= (reading.limit or 1e15)
            assert reading.reset_s is None or 0 <= reading.reset_s <= 31 * DAY_S
    asked_s = retry_after_s(headers, wall)
    assert asked_s is None or 0 <= asked_s <= 31 * DAY_S
    assert why_refused(429, headers, body)
