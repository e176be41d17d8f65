"""laser-cholera's tick loop, compiled: the same numbers to the last bit, without the cost of small arrays.

Set-up stays the engine's own (see `mosaic_mpi.prepared_model`). What is compiled is the loop over ticks: one function
a component, in the engine's order and under its name, on the engine's arrays and with the engine's generator. Random
numbers come from NumPy's own functions and powers and exponentials from NumPy's own loops, called by address, since
others differ in the last bit.

- `draws.py`, `ufunc_calls.py`: NumPy's compiled code, by address
- `components/`: a module a component
- `loop.py`: their order
- `inputs.py`, `rows.py`: the arrays of a model, looked at once, and their rows in compiled code
- `model.py`: a prepared model that is advanced by the loop
- `build.py`: compiled once, kept on disk
- `self_check.py`: its numbers beside the engine's own

Nothing here imports the engine: `mosaic_mpi.engine` hands its objects in. `mosaic_mpi.compiled_engine` decides.
"""
