"""Features that an encoder made elsewhere: their files, how rows meet the patch table, and their numbers when needed.

A row of the table keeps its place in the column `features` ("slide7.h5!12"), as it keeps that of an image in `image`.
"""
