"""`python -m benchmarks.methanol`: what `quality.py` measures."""

from benchmarks.methanol.quality import main

if __name__ == "__main__":
    main()
