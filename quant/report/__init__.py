"""Records -> something to read: terminal, Markdown, JSON, HTML. Computes nothing: what is not in a record is not in a
report.
"""
