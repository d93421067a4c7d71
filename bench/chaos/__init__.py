"""What holds when things break: faults and endurance under load, over real sockets."""
