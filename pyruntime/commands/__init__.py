"""The commands of `pyruntime`, a module each.

Each has add_parser(commands), whose parser's default `run` takes the parsed arguments and
returns the exit status. What takes long to import is imported when the command runs.
"""
