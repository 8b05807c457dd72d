def tables(entries, dilemmas, rows):
    return [f"{len(entries)}"]
