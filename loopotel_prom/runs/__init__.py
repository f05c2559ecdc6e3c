"""Jobs over archives: what is to be told of runs, and whether they are intact."""
