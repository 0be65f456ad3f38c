"""A release asked for everybody, in this process or on Dask."""
