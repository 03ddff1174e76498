#!/bin/bash
# A training for each seed of a job array; its words are those of "esd train":
#   sbatch --array=0-4 launch/slurm/array.sh cartpole
# Each task finds its own folder, runs/<experiment>-s<seed>, because the seed is part of a run's name.

#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --time=1:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
# Without B: SLURM sends SIGUSR1 to the ranks themselves, so this shell has nothing to pass on.
#SBATCH --signal=USR1@120

# What your cluster needs comes here: module load …, . ~/my-environment/bin/activate, export …

srun --mpi=pmix --kill-on-bad-exit=0 esd train "$@" --set seed="$SLURM_ARRAY_TASK_ID"
code=$?

# 75: stopped early. A task of an array is queued again by both of its numbers.
if [ "$code" = 75 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 100 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
