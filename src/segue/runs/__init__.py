"""A run's folder: start, checks, files, resume, and saved policies.

`train` starts and resumes, `drive` runs the engine, `checkpoint` saves and loads, `policy` saves and loads policies.
"""
