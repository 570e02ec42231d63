"""Studies: recipes on tasks with settings and seeds, in a folder that any number of workers fill.

Workers know a study's folder and nothing else, share nothing but the file system, and may die at any time.
"""
