#!/bin/bash
#SBATCH --job-name=cartpole
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --time=02:00:00
#SBATCH --output=runs/submissions/cartpole-1/%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120

# Written by esd submit. It trains until the run has its DONE.json. Before the time limit it asks the training to stop,
# which keeps everything, and queues the job again. The same command goes on from the run's folder.
# shellcheck disable=SC1091,SC2016 # a file on the cluster; words that are meant as they are written

say() { printf 'esd submit: %s\n' "$*" >&2; }

cd -- /home/me/project || exit 1

# what this job trains
task=${SLURM_ARRAY_TASK_ID:-0}
case "$task" in
0) run=runs/cartpole-es.sigma=0.05-s0 settings=() ;;
*) say "there is no task $task"
  exit 2 ;;
esac

command=(mpirun apptainer exec --bind /scratch /images/esd.sif esd train
  "--run=$run" --trust "${settings[@]}")

stop_seconds=90 # for the generation under way to end, once the training is asked to stop
give_up=5 # starts in a row that gain nothing
notes=runs/submissions/cartpole-1/starts
mkdir -p -- "$notes" || exit 1

# Whatever ended the starts before, node failures included: the journal grows with every generation, and within one
# that takes longer than a start does what is kept of its evaluations.
journal=0
[ ! -f "$run/journal.bin" ] || journal=$(wc -c <"$run/journal.bin")
evaluations=$(cat -- "$run/in_progress/"* 2>/dev/null | wc -c)
last_journal=-1 last_evaluations=0 fruitless=0
if [ "${SLURM_RESTART_COUNT:-0}" != 0 ] && [ -f "$notes/$task" ]; then
  read -r last_journal last_evaluations fruitless <"$notes/$task"
fi
if [ "$journal" -gt "$last_journal" ] || [ "$evaluations" -gt "$last_evaluations" ]; then
  fruitless=0
else
  fruitless=$((fruitless + 1))
fi
if [ "$fruitless" -ge "$give_up" ]; then
  say "$run: $fruitless starts in a row without progress; not queued again, see the messages above. Without any," \
    "use a longer --time or more ranks, and submit it again"
  exit 1
fi
printf '%s %s %s\n' "$journal" "$evaluations" "$fruitless" >"$notes/$task.new"
mv -- "$notes/$task.new" "$notes/$task"

job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}

queue_again() {
  say "$run: $1; job $job is queued again"
  if ! scontrol requeue "$job"; then
    say "job $job could not be queued again; to resume, submit the script again: sbatch '${notes%/starts}/job.sh'"
    [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null
  fi
  exit 75
}

# Ranks notice within a minute that a node is lost, and end with exit code 1; SLURM often needs five.
nodes_respond() {
  local nodes=${SLURM_JOB_NUM_NODES:-1}
  [ "$nodes" = 1 ] && return # this one
  timeout --kill-after=5 60     srun "--nodes=$nodes" "--ntasks=$nodes" --ntasks-per-node=1 --overlap --mpi=none true >/dev/null 2>&1
}

pid='' timer=''
stop='' # limit: the time limit is near; late: the generation did not end in time; cancel: the job is to end
interrupted=''
ask_to_stop() {
  interrupted=yes
  [ -z "$pid" ] || kill -USR1 "$pid" 2>/dev/null
}
# shellcheck disable=SC2329 # the trap calls it
at_limit() {
  if [ -z "$stop" ]; then
    stop=limit
    { sleep "$stop_seconds"; kill -ALRM "$$"; } >/dev/null 2>&1 &
    timer=$!
  fi
  ask_to_stop
}
trap at_limit USR1
trap 'stop=cancel; ask_to_stop' TERM INT # by scancel, or to make room for another job
trap 'interrupted=yes; [ "$stop" = cancel ] || stop=late' ALRM

say "$run: job $job, start $((${SLURM_RESTART_COUNT:-0} + 1))"
"${command[@]}" &
pid=$!
[ -z "$stop" ] || ask_to_stop
while :; do
  interrupted=''
  wait "$pid"
  code=$?
  [ "$stop" != late ] || queue_again "the current generation did not end in time; finished evaluations are kept"
  [ -n "$interrupted" ] || break
done
pid=''
[ -z "$timer" ] || kill "$timer" 2>/dev/null

# An exit code of 0 is not enough: mpirun also ends with it when a node is lost.
if [ -f "$run/DONE.json" ] && { [ "$code" = 0 ] || [ "$run/DONE.json" -nt "$notes/$task" ]; }; then
  say "$run is done"
  exit 0
fi
case "$stop:$code" in
  cancel:*) say "$run: the job was canceled, or ended by SLURM; unless it is queued again, submit it again to resume"
    exit "$code" ;;
  limit:75) queue_again "stopped before the time limit" ;;
  *:75) queue_again "stopped early" ;;
  *:0) queue_again "ended without a DONE.json" ;;
  limit:12[89] | limit:1[3-9]? | limit:2??) queue_again "ended by the signal before the time limit" ;;
  *:1) nodes_respond || queue_again "a node of the job was lost" ;;
  *:2 | *:126 | *:127) ;;
  *) queue_again "its processes were killed (exit code $code)" ;; # with a node, or because memory was full
esac
say "$run: ended with exit code $code; not queued again, see the message above"
exit "$code"
