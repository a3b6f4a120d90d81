"""Fair timing of libraries against each other; the README one folder up says what that takes.

| file             | what it answers                                                      |
|------------------|----------------------------------------------------------------------|
| `contestants.py` | who can take part, and what each of them needs                       |
| `workload.py`    | what a workload file says                                            |
| `process.py`     | a contestant in a process of its own, seen from outside              |
| `worker.py`      | the same process from inside; imports no library but the contestant's |
| `duel.py`        | the rounds of one row, from the first step to the ratios             |
| `figures.py`     | medians, intervals, and whether two results agree                    |
| `machine.py`     | the processor, the versions, and whether the machine is quiet        |
| `mkl.py`         | Intel's MKL on AMD processors: the two functions, and why            |
| `report.py`      | tables for the screen and in Markdown                                |
| `chart.py`       | one picture from a JSON file                                         |
"""
