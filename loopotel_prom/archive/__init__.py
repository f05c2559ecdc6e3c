"""The archive: LTF documents and span journals, kept as lines in files."""
