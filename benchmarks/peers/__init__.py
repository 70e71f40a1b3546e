"""Other programs that do the same work, as far as they can be installed.

``start`` of each returns None where that is not so.
"""
