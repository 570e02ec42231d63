"""The task's simulator, as the doctor uses it.

world       resets, random episodes, single steps       recover     which worlds can be put into a logged state, and how
replayed    logged rows, done again
"""
