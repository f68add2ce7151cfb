#!/bin/sh
# Makes .venv hold what a target needs: bootstrap.sh demo|test|dev. Silent and fast where it already does.
# POSIX sh, because it runs on machines that have only python3, git and make. Honours PYTHON; uses uv where present.
set -eu
cd "$(dirname "$0")/.."

level=$1
venv=.venv
python=$venv/bin/python
unfinished=$venv/.plait-unfinished

say() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
# `python3.12` may be there and yet not run (version switchers leave such stubs), so every candidate is asked.
version_of() { "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null; }
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# What an install depends on: where it lies (scripts hold absolute paths), its Python, what was asked for.
state() { printf '%s|%s|%s\n' "$(pwd -P)" "$(version_of $python)" "$(cksum <pyproject.toml)"; }

# Whether .venv has the Python that PYTHON names, if it names one.
wanted() { [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of $python)" ]; }

installed() {
    [ ! -e $unfinished ] && [ -x $python ] && wanted || return 1
    now=$(state)
    case $level in demo) levels="demo test dev" ;; test) levels="test dev" ;; *) levels=dev ;; esac
    for each in $levels; do
        [ -f "$venv/.plait-$each" ] && [ "$(cat "$venv/.plait-$each")" = "$now" ] && return 0
    done
    return 1
}

# Whether an existing .venv can be kept: finished, not moved here, with a Python that runs and something to install by.
usable() {
    [ -e $unfinished ] && return 1
    [ -x $python ] && new_enough $python && wanted || return 1
    for stamp in "$venv"/.plait-*; do
        [ -f "$stamp" ] || continue
        case $(cat "$stamp") in "$(pwd -P)|$(version_of $python)|"*) ;; *) return 1 ;; esac
    done
    have uv || $python -m pip --version >/dev/null 2>&1
}

# Sets $chosen, or ends with one line that says what is missing and how to get it.
choose_python() {
    found=none bare=
    set -- python3.14 python3.13 python3.12 python3.11 python3
    [ -z "${PYTHON:-}" ] || set -- "$PYTHON"
    for chosen in "$@"; do
        version=$(version_of "$chosen") || { [ -z "${PYTHON:-}" ] || found="$PYTHON, which does not run"; continue; }
        new_enough "$chosen" || { found="$chosen $version"; continue; }
        have uv || "$chosen" -c 'import ensurepip, venv' 2>/dev/null || { bare=${bare:-$chosen}; continue; }
        return 0
    done
    if [ -n "$bare" ]; then
        say "$bare cannot create environments (no ensurepip): apt-get install ${bare##*/}-venv, or install uv"
    else
        say "plait needs Python 3.11 or newer; found $found: install one, or make demo PYTHON=/path/to/python3.12"
    fi
    exit 1
}

create() {
    choose_python
    say "plait: creating $venv with Python $(version_of "$chosen")"
    rm -rf $venv
    mkdir $venv
    : >$unfinished
    if have uv; then
        # --allow-existing: the folder holds the mark that it is unfinished.
        uv venv --quiet --allow-existing --python "$chosen" $venv
    else
        "$chosen" -m venv $venv
    fi
}

install() {
    : >$unfinished
    case $level in demo) set -- -e '.[local]' ;; *) set -- -e '.[local]' --group "$level" ;; esac
    say "plait: installing into $venv (a minute or two, once)"
    if have uv; then
        uv pip install --quiet --python $python "$@"
    else
        # Dependency groups need pip 25.1.
        $python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
        $python -m pip install --quiet --disable-pip-version-check "$@"
    fi
    state >"$venv/.plait-$level"
    rm -f $unfinished
}

installed && exit 0
usable || create
install
