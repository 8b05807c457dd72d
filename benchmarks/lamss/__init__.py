"""LaMsS: who is right when willing to answer."""
