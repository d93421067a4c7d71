"""The controller of InferenceCapacity: what should be there, what is, and what to do about it.

Its decisions are pure (`course`, `watchdog`, `members`, `conditions`); `service` watches, asks
them, and carries out what they say.
"""
