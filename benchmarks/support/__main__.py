"""`python -m benchmarks.support`: what `quality.py` measures."""

from benchmarks.support.quality import main

if __name__ == "__main__":
    main()
