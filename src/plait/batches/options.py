"""How a batch runs: what the command line's options and `plait.batch`'s argument say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from plait.errors import SettingsError
from plait.store.files import Durability

_POSITIVE = ("timeout_s", "row_attempts", "budget_usd", "budget_tokens", "deadline_s", "ray_timeout_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """Raises SettingsError where a number cannot be meant."""

    timeout_s: float | None = None
    """Seconds for one row, not counting those in which all it does is wait for a permit."""
    row_attempts: int = 1
    """How often a row that fails is run, the first time included. Answers it has are used again, but those over which a
    node raised an error."""
    max_errors: int | None = None
    """The batch pauses when more rows than this failed."""
    budget_usd: float | None = None
    """The batch pauses before it has cost more dollars, by the table of prices."""
    budget_tokens: int | None = None
    """The batch pauses before it has used more tokens, input and output together."""
    deadline_s: float | None = None
    """The batch pauses after so many seconds; rows in flight then stay pending."""
    workers: int = 0
    """Processes that run rows; 0: this one, or with `ray` as many as the cluster has CPUs."""
    ray: str | None = None
    """Run the workers on a Ray cluster: host:port of its head, "auto" for the one that this machine belongs to, "local"
    for one of this machine alone that ends with the batch."""
    ray_timeout_s: float = 60.0
    """Seconds to wait for the cluster, and for a place for each worker."""
    journal: bool = True
    """Keep every paid answer, so that none is paid for again after an interruption."""
    reuse: str | None = None
    """A batch whose answers are taken for equal requests of equal rows, where they are deterministic."""
    same_draws: bool = False
    """Take from `reuse` the answers that were drawn at random, too, where the same was asked at the same place."""
    recorded_only: bool = False
    """Send nothing: a row fails whose calls are not all answered by `reuse` or by the batch's own journal."""
    durability: Durability = "power"
    """What a stored answer survives: "power" a loss of power, "kill" the death of the process."""

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise SettingsError(f"{name}: expected a number above 0, found {value}")
        if self.max_errors is not None and self.max_errors < 0:
            raise SettingsError(f"max_errors: expected 0 or more rows, found {self.max_errors}")
        if self.workers < 0:
            raise SettingsError(f"workers: expected 1 process or more, found {self.workers}")
        if self.ray is not None:
            _check_address(self.ray)
        if self.recorded_only and not self.journal:
            raise SettingsError("recorded_only: expected a journal to answer from, found journal=False")
        if self.durability not in ("power", "kill"):
            raise SettingsError(f"durability: expected power or kill, found {self.durability!r}")

    def to_json(self) -> dict[str, object]:
        """The parts as plain values; `from_json` takes them back."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: object) -> BatchOptions:
        """The options of a stored batch; parts that this version does not know are left out."""
        if not isinstance(stored, Mapping):
            return cls()
        known = {part.name for part in fields(cls)}
        return cls(**{name: value for name, value in stored.items() if name in known})


def _check_address(address: str) -> None:
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address:
        raise SettingsError(
            f"ray: expected HOST:PORT of the cluster's head, auto or local, found {address}: Ray's client protocol is "
            "not used; run plait on a machine of the cluster (`ray job submit`, or a shell in its head) with --ray auto"
        )
    if not host or not port.isdecimal():
        raise SettingsError(f"ray: expected HOST:PORT of the cluster's head, auto or local, found {address!r}")
