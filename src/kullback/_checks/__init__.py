"""Checks of arguments, one module for each subject: the only place that validates what a user passes.

A check takes the value, the name of its argument, and then what the value is judged against. Where an argument has
the same name everywhere, such as ``alpha``, the check knows it. A check returns the value in the form in which the
rest of the library uses it, or raises an error that says the name, what is accepted and what came.
"""
