# Sourced by the scripts: makes .venv with the newest suitable Python and installs the pinned set.
# Not a script of its own. Usage: prepare_environment run|dev

prepare_environment() {
    local extra="$1" wanted have
    wanted="$(cat pyproject.toml constraints.txt | cksum)"
    # What is set up for development runs as well.
    for have in "$extra" dev; do
        if [[ -x .venv/bin/python && "$(cat ".venv/.installed-$have" 2> /dev/null)" == "$wanted" ]]; then
            return
        fi
    done
    # Without pip it is what an interrupted set-up left.
    if [[ ! -x .venv/bin/python || ! -x .venv/bin/pip ]]; then
        local python
        python="$(_find_python)" || return 2
        echo "trioder: making .venv with $("$python" --version)" >&2
        "$python" -m venv .venv || {
            echo "trioder: $python cannot make a virtual environment in $PWD/.venv (see above)." >&2
            return 2
        }
    fi
    echo "trioder: installing (once; about a minute) ..." >&2
    local target=".[server,client]"
    [[ "$extra" == dev ]] && target=".[dev]"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable "$target" || {
        echo "trioder: the installation failed (see above); it needs the Python package index." >&2
        return 1
    }
    # A copy of axe-core for tests/browser. What it depends on beside that, a Node of its own, is not needed.
    [[ "$extra" != dev ]] || .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --no-deps --upgrade --target .venv/share/axe-core axe-playwright-python || {
        echo "trioder: the installation failed (see above); it needs the Python package index." >&2
        return 1
    }
    echo "$wanted" > ".venv/.installed-$extra"
}

# Prints the newest Python that is at least 3.11 and below 3.14, really runs (a version manager's
# shim may not), and can make virtual environments (Debian packages that part on its own).
_find_python() {
    local candidate without_venv=""
    if [[ -n "${PYTHON:-}" ]] && ! _suits "$PYTHON"; then
        echo "trioder: PYTHON is $PYTHON; it must be a Python 3.11, 3.12 or 3.13 that runs" >&2
        return 2
    fi
    for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python; do
        [[ -n "$candidate" ]] && _suits "$candidate" || continue
        if "$candidate" -c 'import venv, ensurepip' 2> /dev/null; then
            echo "$candidate"
            return
        fi
        without_venv="${without_venv:-$candidate}"
    done
    if [[ -n "$without_venv" ]]; then
        echo "trioder: $without_venv cannot make a virtual environment; install its venv package" \
             "(on Debian and Ubuntu: apt-get install $without_venv-venv)." >&2
    else
        echo "trioder: no Python 3.11, 3.12 or 3.13 was found on the PATH; install one," \
             "or name it: PYTHON=/path/to/python $0" >&2
    fi
    return 2
}

_suits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2> /dev/null
}
