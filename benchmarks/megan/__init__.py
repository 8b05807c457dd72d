"""MeGan: accuracy where a condition tells what to do; speed of the gate."""
