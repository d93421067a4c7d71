"""Requests in two legs under faults, and beside requests in one."""
