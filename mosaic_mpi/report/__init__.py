"""The report of a run: one HTML page, made from the results file alone.

`snapshot` reads; `slot_time`, `host_times`, `failures`, `weights`, `parameter_shifts` and `bands` work it out in
NumPy; `overview` and `provenance` put it into words; the `*_figures` draw; the `*_section*` modules gather, section
by section; `page` makes it HTML; `writer` replaces the file. No MPI, no engine, and nothing imported before it is
needed.
"""
