"""`python -m benchmarks.dreamcub`: what `naming.py` measures."""

from benchmarks.dreamcub.naming import main

if __name__ == "__main__":
    main()
