"""laser-cholera's tick loop, compiled: the same numbers to the last bit, without the cost of small arrays.

Set-up stays the engine's own (see `mosaic_mpi.prepared_model`). What is compiled is the loop over ticks: one function
a component, in the engine's order and under its name, on the engine's arrays and with the engine's generator. Random
numbers come from NumPy's own functions and powers and exponentials from NumPy's own loops, called by address, since
others differ in the last bit.

- `draws.py`, `ufunc_loops.py`: NumPy's compiled code, by address
- `people.py`, `transmission.py`: the components
- `loop.py`: their order
- `state.py`: the arrays of a model, in the form in which the loop takes them
- `model.py`: a prepared model that is advanced by the loop
- `cache.py`, `build.py`: compiled once, kept on disk
- `guard.py`, `self_check.py`: whether all this may be used here

Nothing here imports the engine: `mosaic_mpi.engine` hands its objects in.
"""
