"""Names of processes: only what was of this host, in this container, is ever taken for dead."""

from __future__ import annotations

import os
import subprocess
import sys

from plait.hosts import is_dead, process_name


def test_a_process_that_ended_is_dead_and_one_that_runs_is_not() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = process_name(process.pid)
    assert (is_dead(name), is_dead(process_name())) == (False, False)
    process.communicate(b"\n")
    for behind in ("", "-7", "#1a", "-#\n"):
        assert is_dead(name + behind)
        assert not is_dead(process_name() + behind)


def test_a_number_that_was_given_again_is_not_the_process_that_had_it() -> None:
    pid, _, rest = process_name().partition("@")
    place, _, started = rest.rpartition(".")
    assert int(pid) == os.getpid()
    assert is_dead(f"{pid}@{place}.{int(started) + 1}")


def test_a_process_of_another_machine_with_the_same_host_name_and_namespace_is_not_looked_for() -> None:
    pid, _, rest = process_name().partition("@")
    namespace, machine, _ = rest.split(".")
    boot = f"{int(machine, 16) ^ 1:012x}"
    assert not is_dead(f"{pid}@{namespace}.{boot}.1")
    # Names of older versions tell too little.
    for older in (
        f"{pid}@{os.uname().nodename}.{namespace}.1",
        f"{pid}@{namespace}.{machine}-0",
        f"{pid}@{namespace}-0",
    ):
        assert not is_dead(older)
    for nonsense in ("", "nonsense", "7", f"{'9' * 5000}@{namespace}.{machine}.1", f"-1@{namespace}.{machine}.1"):
        assert not is_dead(nonsense)
