"""`python -m benchmarks.hdlm`: what `quality.py` measures."""

from benchmarks.hdlm.quality import main

if __name__ == "__main__":
    main()
