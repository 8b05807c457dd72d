"""LaHoRe, Rabtriever and simple rankers: ranking measures; speed of both methods."""
