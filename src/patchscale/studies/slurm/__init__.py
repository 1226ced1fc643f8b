"""Trials as a job array of a Slurm cluster: what a job note says, what the queue says, what a job runs, the launcher.

`launcher` submits and waits, `attend` is what each job runs, `note` and `queue` tell where a job stands.
"""
