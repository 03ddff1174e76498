#!/usr/bin/env bash
# The main job in one command: installs what is missing into .venv, trains on all cores, says what comes next.
#   launch/quickstart.sh [arguments of esd train…]
set -euo pipefail

# shellcheck source=launch/environment.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"
use_environment

if [ "${1:-}" = --help ]; then
  exec esd train --help # on ranks it would be said by each of them
fi

# The default experiment needs no extra; what another one needs is found by asking esd, once for each extra.
if [ $# -gt 0 ]; then
  for _ in torch mujoco box2d popgym; do
    extra=$("$venv/bin/python" "$root/launch/missing_extra.py" "$@")
    [ -n "$extra" ] || break
    say "this needs esd-mpi[$extra]"
    install_if_needed "$extra"
  done
fi

ranks=${ESD_RANKS:-$cores}
[ "$ranks" -ge 1 ] 2>/dev/null || fail "ESD_RANKS=$ranks: expected a number of ranks, 1 or more"

# As a variable, not as a flag: an mpirun of another kind would refuse the flag.
if [ "$ranks" -gt "$cores" ]; then
  export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
else
  export PRTE_MCA_rmaps_default_mapping_policy=:hwtcpus # hyperthreads are cores to nproc, so to mpirun too
fi

# In the background, so that a signal to this script is handed on at once. mpirun would answer SIGTERM by killing the
# ranks; SIGUSR1 it hands to them, and they stop after the generation under way. Ctrl-C reaches mpirun by itself.
"$mpirun" -n "$ranks" esd train "$@" &
job=$!
trap 'kill -USR1 "$job"' TERM USR1
trap 'say "interrupted; the same command goes on after the last complete generation"' INT
code=0
wait "$job" || code=$?
while [ "$code" -gt 128 ] && kill -0 "$job" 2>/dev/null; do # a signal ended the wait, not mpirun
  code=0
  wait "$job" || code=$?
done
[ "$code" = 0 ] || exit "$code"

esd=$venv/bin/esd
[ "$PWD" != "$root" ] || esd=.venv/bin/esd
run=RUN # esd has named the folder above
[ $# -gt 0 ] || run=runs/cartpole-s0
say "next (esd is $esd):"
printf '  %q %s %s\n' "$esd" show "$run" "$esd" eval "$run" >&2
