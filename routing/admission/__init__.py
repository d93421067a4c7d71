"""Who may go to a busy pool next, and who waits or is turned away: pure.

`room` says whether some endpoint can begin with another request. Whoever finds none stands in an
`AdmissionQueue`: higher priorities first, within one priority each tenant its share of the work
(`fairqueue`), and when the queue is full the least entitled request makes way.
"""
