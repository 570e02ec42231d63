"""A run's folder: start, checks, files, resume, and saved policies.

`train` starts and resumes, `drive` runs the engine, `checkpoint` saves and loads, `policy` saves and loads policies.
`sinks` and `trackers` take its rows, `watch` and `stopping` may end it early.
"""
