"""`python -m benchmarks.m3_jepa`: what `quality.py` measures."""

from benchmarks.m3_jepa.quality import main

if __name__ == "__main__":
    main()
