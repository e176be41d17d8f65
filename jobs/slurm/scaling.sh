#!/bin/bash
# A scaling study on a Slurm cluster: 1, 2, 4 and 8 nodes, one job each, and at the end a table of simulations a second
# and efficiency, in mosaic_mpi-scaling-strong.log, and a plot of efficiency against slots beside it.
#   jobs/slurm/scaling.sh                    strong scaling: the same simulations at every size
#   jobs/slurm/scaling.sh weak               weak scaling: the same simulations for each node
#   jobs/slurm/scaling.sh weak 1 3 9         other sizes
# What to run is said in scaling.sbatch. What your site asks for goes into sbatch's own variables, for all the jobs:
#   export SBATCH_ACCOUNT=… SBATCH_PARTITION=…
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export STUDY=strong
case "${1:-}" in strong | weak)
    STUDY=$1
    shift
    ;;
esac
[ $# -gt 0 ] || set -- 1 2 4 8

jobs=
files=
for nodes; do
    job=$(sbatch --parsable --nodes="$nodes" "$here/scaling.sbatch")
    echo "$nodes nodes: job $job"
    jobs+=:${job%%;*}
    files+=" scaling-$STUDY-$nodes.h5"
done
name=mosaic_mpi-scaling-$STUDY
table=$(sbatch --parsable --dependency="afterany$jobs" --job-name="$name" --output=%x.log --ntasks=1 \
    --wrap "python '$here/../scaling.py' --plot $name.svg$files")
echo "table: job ${table%%;*}, $name.log"
