#!/usr/bin/env bash
# All checks and tests in one command; with arguments, only pytest with these.
#   launch/test.sh [arguments of pytest…]
set -euo pipefail

# shellcheck source=launch/environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
# Tests of a component that is not installed skip, naming what installs it; ESD_TEST_EXTRAS=peers brings evosax.
read -ra extras <<<"${ESD_TEST_EXTRAS:-}"
use_environment all test ${extras[@]+"${extras[@]}"}
cd "$root"

# Tests start a thousand processes: none should have to compile esd first, not even where PYTHONDONTWRITEBYTECODE is set.
python -m compileall -q esd envs tests

# Tests start more ranks than there are cores.
export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe

if [ $# -gt 0 ]; then
  exec python -m pytest "$@"
fi

passed=

# part NAME COMMAND…: one part of the whole; the first that fails ends it.
part() {
  local name=$1 code=0
  shift
  printf '\n== %s\n' "$name"
  "$@" || code=$?
  [ "$code" != 124 ] || name="$name, out of time"
  [ "$code" = 0 ] || fail "FAILED: $name (exit code $code). Passed before: ${passed:-nothing}"
  passed=${passed:+$passed, }$name
}

# limit SECONDS COMMAND…: a hang is a failure. In the foreground, so that Ctrl-C works; macOS has no timeout.
limit() {
  if command -v timeout >/dev/null; then
    timeout --foreground --kill-after=20 "$@"
  else
    "${@:2}"
  fi
}

# on_ranks N: the MPI tests on N ranks. Rank 0 reports; the others are heard only if something failed.
on_ranks() {
  local reports code=0
  reports=$(mktemp -d)
  # Without the cache, which all ranks would write at once, and without colors, which Open MPI's terminals would turn
  # on even in a log. In folders of their own, since ranks that clean up old ones together get in each other's way. A
  # run in which no MPI test passed is a failure.
  # shellcheck disable=SC2016 # for the ranks' shells
  ESD_REQUIRE_MPI_TESTS=1 limit 600 "$mpirun" -n "$1" bash -c '
    rank=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-0}}
    [ "$rank" = 0 ] || exec >"$0/rank-$rank" 2>&1
    exec python -m pytest --with-mpi --color=no -p no:cacheprovider --basetemp="$0/files-$rank" -q tests/mpi
  ' "$reports" || code=$?
  [ "$code" = 0 ] || find "$reports" -maxdepth 1 -type f -exec tail -n 100 -v {} +
  rm -r -- "$reports"
  return "$code"
}

part "ruff check" ruff check .
part "ruff format" ruff format --check .
part "mypy" mypy
part "shellcheck" shellcheck launch/*.sh launch/slurm/*.sh launch/cloud/*.sh .ci/run
part "hadolint" hadolint Dockerfile
# Three at a time, since many of them wait: for a process to end, or for a deadline. More would be in each other's way.
part "tests" limit 4500 python -m pytest tests --ignore=tests/mpi -n "$((cores > 1 ? 3 : 1))" --dist loadgroup --durations=25
for ranks in 1 2 3 5; do
  part "MPI tests on $ranks ranks" on_ranks "$ranks"
done
part "broken laws are noticed" limit 1800 python -m tests.break_laws

printf '\n'
say "passed: $passed"
