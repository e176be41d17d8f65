#!/bin/bash
# Run mosaic_mpi on one machine with all its cores, and start it again should its main process die.
# Stop it with Ctrl-C or kill; the same command goes on where it stood. In the background, safe from logging out:
#   nohup jobs/workstation.sh >run.log 2>&1 &

# ---- edit these -----------------------------------------------------------------------------------------
OUTPUT=${OUTPUT:-mosaic_run.h5}
N_SIMULATIONS=${N_SIMULATIONS:-1000}
OPTIONS=(--save "reported_cases,reported_deaths") # see python -m mosaic_mpi run --help
# . /path/to/your/environment/bin/activate
# ---------------------------------------------------------------------------------------------------------

completed() { # simulations completed so far; 0 without a file
    python -m mosaic_mpi status --json "$OUTPUT" 2>/dev/null |
        python -c 'import json, sys; print(json.load(sys.stdin)["completed"])' 2>/dev/null || echo 0
}

child=
stopped=
forward() {
    stopped=yes
    [ -n "$child" ] && kill "-$1" "$child" 2>/dev/null
}
for name in INT TERM HUP USR1; do
    # shellcheck disable=SC2064  # the name of now is meant
    trap "forward $name" "$name"
done

while true; do
    before=$(completed)
    python -m mosaic_mpi run --output "$OUTPUT" --n-simulations "$N_SIMULATIONS" "${OPTIONS[@]}" &
    child=$!
    while
        wait "$child"
        code=$?
        kill -0 "$child" 2>/dev/null
    do :; done # a signal ends wait, not the run
    # Killed (128 and more): start again, as long as that gets us on. Everything else is an answer.
    if [ -n "$stopped" ] || [ "$code" -lt 128 ]; then
        exit "$code"
    fi
    after=$(completed)
    python -m mosaic_mpi status --check "$OUTPUT" >/dev/null
    if [ $? -ne 75 ] || [ "$after" -le "$before" ]; then # complete, or not worth another start
        exit "$code"
    fi
    echo "$0: ended by signal $((code - 128)) after $after simulations; starting again" >&2
done
