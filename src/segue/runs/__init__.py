"""A run's folder: begun, checked, written, resumed, and the policies that it leaves.

`train` begins and resumes, `drive` stands around the engine, `checkpoint` saves and loads, `policy` holds what acts.
"""
