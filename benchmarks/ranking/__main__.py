"""`python -m benchmarks.ranking`: what `quality.py` measures."""

from benchmarks.ranking.quality import main

if __name__ == "__main__":
    main()
