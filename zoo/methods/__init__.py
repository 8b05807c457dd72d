"""The methods: a folder per paper, with all that only this paper needs."""
