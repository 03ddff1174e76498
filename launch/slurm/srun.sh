#!/bin/bash
# One training whose ranks srun starts; its words are those of "esd train":
#   sbatch launch/slurm/srun.sh cartpole --set seed=1
# "esd submit" writes such a script for you, and checks more. This one is to be copied and changed.

#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --time=1:00:00
# After a node failure, and after "scontrol requeue" below, the job is queued again and appends to the same log.
#SBATCH --requeue
#SBATCH --open-mode=append
# 120 s before the time limit SLURM sends SIGUSR1 to this shell, and only to it (B:). A generation has to fit into that.
#SBATCH --signal=B:USR1@120

# What your cluster needs comes here: module load …, . ~/my-environment/bin/activate, export …

# --mpi=pmix is for Open MPI; "srun --mpi=list" shows what else there is. Without it every rank would be alone, which
# esd refuses. --kill-on-bad-exit=0, because ranks that stop early leave one after the other with exit code 75.
srun --mpi=pmix --kill-on-bad-exit=0 esd train "$@" &
training=$!

# On SIGUSR1 the training finishes the generation under way, keeps everything and exits with 75.
signals=0 stop=''
trap 'signals=$((signals + 1)) stop=limit; kill -USR1 "$training"' USR1
trap 'signals=$((signals + 1)) stop=cancel; kill -USR1 "$training"' TERM # scancel

# A signal also interrupts "wait": wait again until the training itself has ended.
while before=$signals; wait "$training"; code=$?; [ "$signals" != "$before" ]; do :; done

# 75: stopped early. The same command goes on from the run's folder. 100 starts at most, should something go wrong.
# With more nodes than this one, ranks may notice a lost node before SLURM: then also queue it again if code is above 2.
if [ "$code" = 75 ] && [ "$stop" != cancel ] && [ "${SLURM_RESTART_COUNT:-0}" -lt 100 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
