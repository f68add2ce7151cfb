"""What happened in a lane since it last reported."""

from __future__ import annotations

from plait.flow.headers import Advice
from plait.flow.leases import Refusal, Report, Told
from plait.flow.tickets import Outcome, Ticket
from plait.flow.windows import per_token


class Diary:
    """Collects a report and hands it in; counts all that was ever sent, so that it is known what came after what."""

    def __init__(self, holder: str) -> None:
        self._report = Report(holder, new=True)
        self._requests = 0.0
        self._tokens = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was sent since the last report."""
        return not self._report.sent

    @property
    def has_successes(self) -> bool:
        return self._report.successes > 0

    def note_sent(self, ticket: Ticket) -> None:
        """A call goes out."""
        ticket.requests_before, ticket.tokens_before = self._requests, self._tokens
        self._requests += 1
        self._tokens += ticket.tokens
        self._report.sent += 1
        self._report.sent_tokens += ticket.tokens

    def note_end(self, ticket: Ticket, outcome: Outcome) -> None:
        """A call was answered or refused."""
        report = self._report
        report.corrected_tokens += ticket.tokens - outcome.tokens
        if outcome.kind is not None:
            requests, tokens = self._sent_after(ticket)
            report.refusals.append(
                Refusal(
                    outcome.kind,
                    ticket.sent_at,
                    ticket.in_flight,
                    requests,
                    ticket.tokens,
                    tokens,
                    outcome.retry_after_s,
                )
            )
            return
        if not outcome.reached:
            report.unanswered += 1
            return
        report.successes += 1
        if outcome.duration_s:
            report.timed += 1
            report.company += ticket.in_flight
            report.latency += per_token(outcome.duration_s, outcome.output_tokens)
            report.output_tokens += outcome.output_tokens

    def note_told(self, ticket: Ticket, advice: Advice) -> None:
        """An answer's headers spoke of limits; the latest that did is what counts."""
        self._report.told = [Told(advice, ticket.sent_at, *self._sent_after(ticket))]

    def hand_in(self) -> Report:
        """The report; another begins."""
        report, self._report = self._report, Report(self._report.holder)
        return report

    def _sent_after(self, ticket: Ticket) -> tuple[float, float]:
        return self._requests - ticket.requests_before - 1, self._tokens - ticket.tokens_before - ticket.tokens
