"""Images in and out: Arrow column layouts, files on any file system, atomic writes, sample data, errors."""
