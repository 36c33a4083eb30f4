"""code/<hash>/: which files of a project the runs need, the copy of them, and how the project has changed since."""
