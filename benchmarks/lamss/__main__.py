"""`python -m benchmarks.lamss`: what `quality.py` measures."""

from benchmarks.lamss.quality import main

if __name__ == "__main__":
    main()
