"""The Slurm launcher: submits what is not queued, running or done as one job array, and waits; jobs outlive it."""

from __future__ import annotations

import contextlib
import datetime
import io
import secrets
import sys
import time
from collections.abc import Callable

from patchscale.errors import InputError, Terminated
from patchscale.files import write_json
from patchscale.studies.local import worker_environment
from patchscale.studies.run_directory import RunDirectory, Standing
from patchscale.studies.schema import Trial
from patchscale.studies.slurm import attend
from patchscale.studies.slurm.note import JobNote
from patchscale.studies.slurm.options import SlurmOptions
from patchscale.studies.slurm.queue import GONE, Job, find_array, read_queue

POLL_SECONDS = 1.0
QUEUE_SECONDS = 5.0
LARGEST_ARRAY = 1000
"""Slurm's own default limit on the size of an array."""
UNTIL_SEEN = 2
"""A result may reach this machine's view of a shared folder after Slurm's word: so many looks decide that none will."""


class SlurmLauncher:
    """Sends trials to Slurm and waits until each is done, failed or cancelled.

    Everything it knows lies in the trials' folders, so that a later launcher takes up where this one ended.

    Args:
        run: the run directory, on a file system that all nodes share.
        options: resources of one trial.
        parallel: trials that may run at a time.
        say: receives a line for each decision.
        watch: called every second with the ids of running trials and a few words on the queue.
    """

    def __init__(
        self,
        run: RunDirectory,
        options: SlurmOptions,
        parallel: int,
        say: Callable[[str], None],
        watch: Callable[[set[str], str], None],
    ) -> None:
        self.run, self.options, self.parallel, self.say, self.watch = run, options, parallel, say, watch
        self.looks: dict[str, int] = {}

    def launch(self, trials: list[Trial]) -> None:
        """Returns when no trial is waiting, queued or running.

        Raises:
            InputError: Slurm refuses the jobs.
            KeyboardInterrupt: the user stops watching; jobs go on.
        """
        with self.run.hold_study():
            self._submit(self._at_rest(trials))
        watched = [trial for trial in trials if self.run.result(trial.id) is None]
        looked, standings = 0.0, {}
        try:
            while watched:
                if time.monotonic() - looked > QUEUE_SECONDS:
                    standings = self._look(watched) or standings
                    looked = time.monotonic()
                watched = [t for t in watched if self.run.state(t) not in ("done", "failed", "cancelled")]
                running = {trial.id for trial in watched if self.run.state(trial) == "running"}
                queued = [t for t in watched if t.id in standings and standings[t.id].state == "queued"]
                self.watch(running, f"{len(queued)} queued" if queued else "")
                time.sleep(POLL_SECONDS)
        except (KeyboardInterrupt, Terminated):
            arrays = sorted({note.array for t in watched if (note := self.run.job(t.id)) and note.array})
            self.say(f"the jobs of {len(watched)} trials go on; to end them: scancel {' '.join(arrays)}")
            raise

    def _at_rest(self, trials: list[Trial]) -> list[Trial]:
        """Trials that nobody has; a submission that was cut short is looked for by its name first."""
        notes = {trial.id: note for trial in trials if (note := self.run.job(trial.id)) is not None}
        found = {name: find_array(name) for name in {note.name for note in notes.values() if note.array is None}}
        for trial_id, note in notes.items():
            if note.array is None and found[note.name] is not None:
                notes[trial_id] = note.model_copy(update={"array": found[note.name]})
                self.run.write_job(trial_id, notes[trial_id])
        queue = read_queue(note.array for note in notes.values() if note.array)
        if queue is None:
            raise InputError("Slurm does not answer (squeue failed), so nobody knows what is queued; try again later")
        return [t for t in trials if self.run.standing(t, queue).state not in ("done", "running", "queued")]

    def _look(self, watched: list[Trial]) -> dict[str, Standing] | None:
        """Asks Slurm once for all, settles trials whose job ended without a word, and says where each stands."""
        notes = {trial.id: self.run.job(trial.id) for trial in watched}
        queue = read_queue(note.array for note in notes.values() if note and note.array)
        if queue is None:
            return None
        standings = {trial.id: self.run.standing(trial, queue) for trial in watched}
        again = []
        for trial in watched:
            if standings[trial.id].state in ("queued", "running", "done", "failed"):
                self.looks.pop(trial.id, None)
                continue
            self.looks[trial.id] = self.looks.get(trial.id, 0) + 1
            note = notes[trial.id]
            if self.looks[trial.id] >= UNTIL_SEEN and (note is None or self._goes_on(trial, note, queue)):
                again.append(trial)
        if again:
            with self.run.hold_study():
                self._submit(again)
        return standings

    def _goes_on(self, trial: Trial, note: JobNote, queue: dict[str, Job]) -> bool:
        """Notes how a job without a result ended; True if it got further, so that another may finish the trial."""
        state = queue.get(note.job, Job(GONE)).state
        self.run.write_job(trial.id, note.model_copy(update={"ended": state}))
        if state == "CANCELLED":
            self.say(f"cancelled  {trial.label}: job {note.job}; the same command submits it again")
            return False
        if state != "OUT_OF_MEMORY" and self._step(trial) > note.step:
            return True
        log = self.run.path / "slurm" / f"{note.job}_0_log.out"
        self.run.write_failure(trial.id, f"job {note.job} ended ({state}) without getting further; see {log}")
        return False

    def _step(self, trial: Trial) -> int:
        note = self.run.progress(trial.id)
        return note["step"] if note else 0

    def _submit(self, trials: list[Trial]) -> None:
        for start in range(0, len(trials), LARGEST_ARRAY):
            self._submit_array(trials[start : start + LARGEST_ARRAY])

    def _submit_array(self, trials: list[Trial]) -> None:
        """One array, or one job; the intention is on disk before, Slurm's number after."""
        name = f"patchscale-{secrets.token_hex(4)}"
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        notes = {}
        for index, trial in enumerate(trials):
            notes[trial.id] = JobNote(name=name, index=index, size=len(trials), step=self._step(trial), submitted=now)
            self.run.write_job(trial.id, notes[trial.id])
            folder = self.run.trial_folder(trial.id)
            (folder / "failed.json").unlink(missing_ok=True)
            write_json(folder / "config.json", trial.config.model_dump(mode="json"))
        array = self._sbatch(name, [trial.id for trial in trials])
        for trial_id, note in notes.items():
            self.run.write_job(trial_id, note.model_copy(update={"array": array}))
        self.say(f"submitted {len(trials)} trials as Slurm job {array}; logs in {self.run.path / 'slurm'}")

    def _sbatch(self, name: str, trial_ids: list[str]) -> str:
        """Slurm's number of the new array."""
        import cloudpickle  # pyright: ignore[reportMissingImports]
        import submitit  # pyright: ignore[reportMissingImports]
        from submitit.core.utils import FailedJobError  # pyright: ignore[reportMissingImports]

        options, path = self.options, self.run.path.resolve()
        cloudpickle.register_pickle_by_value(sys.modules[attend.__name__])
        environment = worker_environment(options.cpus)
        shape = options.nodes, options.processes_per_node
        jobs = [attend.TrialJob(str(path), trial_id, *shape, environment) for trial_id in trial_ids]
        executor = submitit.SlurmExecutor(folder=path / "slurm")
        executor.update_parameters(
            job_name=name,
            nodes=options.nodes,
            ntasks_per_node=1,
            cpus_per_task=options.cpus * options.processes_per_node,
            time=None,  # the partition's, unless the user asks for one
            wckey=None,
            array_parallelism=self.parallel,
            stderr_to_stdout=True,
            additional_parameters=options.sbatch(),
        )
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it also raises
                return executor.submit_array(jobs)[0].job_id.split("_")[0]
        except FailedJobError as error:
            raise InputError(f"Slurm refuses the jobs: {_last_line(str(error))}") from error


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if "sbatch:" in line or "error" in line.lower()]
    return lines[-1] if lines else " ".join(text.split())
