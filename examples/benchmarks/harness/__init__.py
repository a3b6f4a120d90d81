"""Fair timing of libraries against each other; the README one folder up says what that takes.

| file              | what it answers                                              |
|-------------------|--------------------------------------------------------------|
| `contestants.py`  | who can take part, and what each of them needs               |
| `workload.py`     | what a workload file says                                    |
| `duel.py`         | one row: first steps, equal results, rounds, ratios          |
| `process.py`      | a contestant in a process of its own, seen from outside      |
| `../worker.py`    | the same from inside; it imports the contestant's library only |
| `memory.py`       | how much memory this process has                             |
| `figures.py`      | medians, intervals, and whether two results agree            |
| `machine.py`      | the processor, the versions, and whether anyone else is busy |
| `mkl.py`          | Intel's MKL on AMD processors: two functions, and why        |
| `report.py`       | tables for the screen and in Markdown                        |
| `chart.py`        | one picture from a JSON file                                 |
"""
