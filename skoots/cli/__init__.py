"""The command line: one verb a file; argv, sentences and exit statuses live here and nowhere else."""
