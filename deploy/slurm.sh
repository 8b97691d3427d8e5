#!/bin/bash
# GPT-2 on several nodes of a Slurm cluster. First, once, the data; then the job:
#   python main.py prepare --data.path texts --data.tokenizer gpt2-vocabulary --out shards
#   sbatch deploy/slurm.sh
# A job that begins again goes on where the run stopped. Slurm itself begins it again (--requeue)
# after a failed node or a preemption, not after --time is over: then submit it once more.
#SBATCH --job-name=gpt2
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --output=gpt2-%j.log

set -euo pipefail
cd "${SLURM_SUBMIT_DIR:?start this file with sbatch}"

RUN=${RUN:-runs/gpt2-slurm}   # on a file system that all nodes see
GPUS=${GPUS:-8}               # of each node
DATA=${DATA:-shards}          # what `python main.py prepare` wrote

if [ -e "$RUN/config.json" ]; then
    WHAT=(--resume "$RUN")
else
    WHAT=(--out "$RUN" --preset gpt2 --data.path "$DATA" --train.strategy ddp
          --train.batch-size 512 --train.micro-batch 32 --train.eval-every 1000
          --train.max-steps 20000)
fi

# From Slurm 22.05 on, srun does not take --cpus-per-task over from sbatch: without this line the
# processes of a node would share one core.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
FIRST=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
srun --kill-on-bad-exit=1 .venv/bin/torchrun \
    --nnodes "$SLURM_NNODES" --nproc-per-node "$GPUS" \
    --rdzv-id "$SLURM_JOB_ID" --rdzv-backend c10d --rdzv-endpoint "$FIRST:29500" \
    main.py train "${WHAT[@]}"
