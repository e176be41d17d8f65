#!/bin/bash
# A scaling study on a Slurm cluster: the same simulations on 1, 2, 4 and 8 nodes, one job each, and a table of
# simulations a second and efficiency at the end, in mosaic_mpi-scaling-table.log.
#   jobs/slurm/scaling.sh            or other sizes: jobs/slurm/scaling.sh 1 3 9
# What to run is said in scaling.sbatch. What your site asks for goes into sbatch's own variables, for all the jobs:
#   export SBATCH_ACCOUNT=… SBATCH_PARTITION=…
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || set -- 1 2 4 8

jobs=
files=
for nodes; do
    job=$(sbatch --parsable --nodes="$nodes" "$here/scaling.sbatch")
    echo "$nodes nodes: job $job"
    jobs+=:${job%%;*}
    files+=" scaling-$nodes.h5"
done
table=$(sbatch --parsable --dependency="afterany$jobs" --job-name=mosaic_mpi-scaling-table --output=%x.log \
    --ntasks=1 --wrap "python '$here/../scaling.py'$files")
echo "table: job ${table%%;*}, mosaic_mpi-scaling-table.log"
