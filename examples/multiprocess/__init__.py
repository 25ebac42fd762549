"""Training on several processes: `python -m examples.multiprocess`, from the folder of the clone.

__main__.py   the command line: starts the processes, watches them, and says how the job ended
launcher.py   starts processes, waits until all have ended, and ends all if one fails
worker.py     one process of the job: joins the others, and trains
training.py   the mesh, the shardings, the data and the loop, which are the same in one process
"""
