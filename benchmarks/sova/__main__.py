"""`python -m benchmarks.sova`: what `dilemmas.py` measures."""

from benchmarks.sova.dilemmas import main

if __name__ == "__main__":
    main()
