"""The engine's components, one module each under the name of the engine's file, in laser/cholera/metapop.

Each has what the component takes, under the engine's names, and a function that does what its ``__call__`` does on a
tick: the same draws in the same order, every intermediate result of the same type. It returns False where the engine
would raise, since a number is negative that must not be, or NumPy refuses to draw; what was written then is worth
nothing.
"""
