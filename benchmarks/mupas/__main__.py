"""`python -m benchmarks.mupas`: what `quality.py` measures."""

from benchmarks.mupas.quality import main

if __name__ == "__main__":
    main()
