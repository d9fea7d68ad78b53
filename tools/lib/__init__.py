"""What the programs share: results files, the machine's description, busy cores, folders."""
