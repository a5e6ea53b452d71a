"""The only room that imports transformers and bitsandbytes; both are imported when a function needs them, never at
import.
"""
