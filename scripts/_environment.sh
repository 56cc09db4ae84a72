# Sourced by the scripts: makes .venv with the newest suitable Python and installs the pinned set.
# Not a script of its own. Usage: prepare_environment run|dev

prepare_environment() {
    local extra="$1" stamp wanted
    stamp=".venv/.installed-$extra"
    wanted="$(cat pyproject.toml constraints.txt | cksum)"
    if [[ -x .venv/bin/python && -f "$stamp" && "$(cat "$stamp")" == "$wanted" ]]; then
        return
    fi
    if [[ ! -x .venv/bin/python ]]; then
        local python
        python="$(_find_python)" || return 2
        echo "trioder: making .venv with $("$python" --version)" >&2
        "$python" -m venv .venv || {
            echo "trioder: $python cannot make a virtual environment; install its venv package" \
                 "(on Debian and Ubuntu: apt-get install python3-venv)." >&2
            rm -rf .venv
            return 2
        }
    fi
    echo "trioder: installing (once; about a minute) ..." >&2
    local target="."
    [[ "$extra" == dev ]] && target=".[dev]"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable "$target" || return 1
    echo "$wanted" > "$stamp"
}

# Prints the newest Python that is at least 3.11 and below 3.14, and really runs (a version
# manager's shim may not).
_find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.13 python3.12 python3.11 python3 python; do
        [[ -n "$candidate" ]] || continue
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
            2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "trioder: no Python 3.11, 3.12 or 3.13 was found on the PATH; install one," \
         "or name it: PYTHON=/path/to/python $0" >&2
    return 2
}
