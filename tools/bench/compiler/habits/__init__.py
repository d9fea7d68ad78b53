"""Small networks in the manner of people's code, by subject, each a file for `cases`."""
