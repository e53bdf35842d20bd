"""The parts of the page, one module each: a function from what a run folder holds to a Section."""
