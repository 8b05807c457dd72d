"""`python -m benchmarks.alpo`: what `quality.py` measures."""

from benchmarks.alpo.quality import main

if __name__ == "__main__":
    main()
