"""`python -m benchmarks.megan`: what `quality.py` measures."""

from benchmarks.megan.quality import main

if __name__ == "__main__":
    main()
