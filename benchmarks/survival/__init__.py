"""What sasrec survives: each claim tried many times on real processes, files and disks, and counted."""
