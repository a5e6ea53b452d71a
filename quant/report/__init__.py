"""Records -> something to read: terminal, Markdown, JSON. Computes nothing: what is not in a record is not in a
report.
"""
