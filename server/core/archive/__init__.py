"""Conversations out to files and in from them, ours and other programs'."""
