#!/bin/bash
# One training whose ranks mpirun starts, through "esd launch"; its words are those of "esd train":
#   sbatch launch/slurm/mpirun.sh cartpole --set seed=1
# "esd launch" finds the mpirun that belongs to mpi4py's library, which knows the job's nodes from SLURM, and starts it
# again when ranks are lost. Add --fault-tolerant (Open MPI 5) to let the other ranks go on.

#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --time=1:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120

# What your cluster needs comes here: module load …, . ~/my-environment/bin/activate, export …

esd launch train "$@" &
training=$!

# See srun.sh for what follows.
signals=0 stop=''
trap 'signals=$((signals + 1)) stop=limit; kill -USR1 "$training"' USR1
trap 'signals=$((signals + 1)) stop=cancel; kill -USR1 "$training"' TERM
while before=$signals; wait "$training"; code=$?; [ "$signals" != "$before" ]; do :; done

if [ "$code" = 75 ] && [ "$stop" != cancel ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 100 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
