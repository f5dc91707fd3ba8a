"""Many files in one command: which are meant, what becomes of each, and the processes that do the work.

`inputs` finds the files that names stand for, `plan` pairs them with outputs, `files` reads and writes them, `run` does
the work with the help of `workers` (processes of this machine) or `cluster` (Dask), and `totals` sums it up.
"""
