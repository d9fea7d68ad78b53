"""What `trtexec` prints, as observations of whole networks."""
