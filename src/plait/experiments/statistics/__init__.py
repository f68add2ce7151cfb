"""The statistics of experiments, on plain numbers: intervals, paired differences, tests, effects, corrections."""
