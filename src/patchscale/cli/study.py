"""`patchscale study ...`: run a grid of trials, see where it stands, rebuild its report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from patchscale.cli.app import Trackers, app, terminated_as_interrupted

study_app = typer.Typer(help="Run a study: a grid of trials, its laws and its report.", no_args_is_help=True)
app.add_typer(study_app, name="study")

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Scale = Annotated[str | None, typer.Option(help="tiny (minutes), small (hours) or paper (a cluster).")]


@study_app.command("list", epilog="Example:  patchscale study list")
def list_presets(as_json: Json = False) -> None:
    """List the studies that come with patchscale."""
    from patchscale.studies import load_study, preset_names

    found = {name: load_study(name) for name in preset_names()}
    if as_json:
        print(json.dumps([{"name": n, "title": s.title, "source": s.source} for n, s in found.items()], indent=2))
        return
    for name, study in found.items():
        print(f"{name:<16} {study.title}" + (f"  [{study.source}]" if study.source else ""))


@study_app.command(epilog="Example:  patchscale study show patchification")
def show(preset: Annotated[str, typer.Argument(help="Name of a preset.")]) -> None:
    """Print a preset's YAML, a start for one's own study file."""
    from patchscale.studies import preset_text

    print(preset_text(preset), end="")


@study_app.command(
    epilog="Example:  patchscale study run patchification --scale tiny --data path/to/images --out runs/mine"
)
def run(
    preset_or_file: Annotated[str, typer.Argument(help="Name of a preset, or a YAML file with the same keys.")],
    scale: Scale = None,
    data: Annotated[str | None, typer.Option(help="Name or folder of a data set.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory; runs/<name>-<scale>[-<data>] by default.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key.")] = None,
    launcher: Annotated[str, typer.Option(help="Where trials run: local, or slurm (a job array).")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Trials at a time; one per GPU or core.")] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Resources of one trial: nodes, gpus, cpus, time, partition, ..."),
    ] = None,
    reuse: Annotated[
        list[Path] | None,
        typer.Option(metavar="DIR", help="Run directory, or a folder of them: take over finished trials they share."),
    ] = None,
    trackers: Trackers = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the trials and their cost, run nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Run a study; the same command continues one that was interrupted."""
    from patchscale import studies
    from patchscale.cli.display import StudyDisplay, print_outcome, print_plan
    from patchscale.errors import InputError
    from patchscale.studies.slurm.options import parse_options

    if launcher not in ("local", "slurm"):
        raise InputError(f"unknown launcher {launcher!r}; use local or slurm")
    if slurm and launcher == "local":
        raise InputError("--slurm asks for resources of a cluster; add --launcher slurm")
    resources = parse_options(slurm or []) if launcher == "slurm" else None
    study = studies.load_study(preset_or_file, scale=scale, data=data, settings=settings)
    if dry_run:
        print_plan(studies.settled(study), as_json=as_json)
        return
    about = f"-{re.sub(r'[^A-Za-z0-9._-]+', '-', Path(data).name)}" if data else ""
    folder = out or Path("runs") / f"{study.name}-{study.scale}{about}"
    display = StudyDisplay(quiet=as_json)
    try:
        with terminated_as_interrupted():
            outcome = studies.run(
                study,
                folder,
                workers=workers,
                slurm=resources,
                trackers=trackers or [],
                reuse=reuse or [],
                say=display.say,
                watch=display.watch,
            )
    finally:
        display.close()
    page = build_page(folder) if outcome.laws else None
    print_outcome(outcome, page, as_json=as_json)
    if outcome.failed:
        raise typer.Exit(1)


def build_page(folder: Path) -> Path:
    """The report of one run directory, in it."""
    from patchscale import report

    return report.build([folder], folder / "report.html")


@study_app.command(epilog="Example:  patchscale study status runs/quickstart-tiny")
def status(folder: Annotated[Path, typer.Argument(help="Run directory.")], as_json: Json = False) -> None:
    """Show which trials are done, running, queued, failed, cancelled or waiting, and the time left."""
    from patchscale.cli.display import print_status

    print_status(folder, as_json=as_json)


@study_app.command(epilog="Example:  patchscale study watch runs/quickstart-tiny")
def watch(
    folder: Annotated[Path, typer.Argument(help="Run directory.")],
    port: Annotated[int, typer.Option(help="Port to serve on.")] = 8321,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="Allow an address that others reach.")] = False,
) -> None:
    """Serve the live report of a running study, read-only, until Ctrl-C."""
    from patchscale import report

    report.watch(folder, port, host, allow_remote=allow_remote)


@study_app.command("report", epilog="Example:  patchscale study report runs/quickstart-tiny --figures")
def build_report(
    folders: Annotated[list[Path], typer.Argument(help="Run directories; several are merged into one page.")],
    out: Annotated[Path | None, typer.Option(help="The HTML file; report.html in the first folder.")] = None,
    figures: Annotated[bool, typer.Option("--figures", help="Also write SVG and PNG figures.")] = False,
) -> None:
    """Fit the laws of what is finished and rebuild the report; kept results without trials are shown as they are."""
    from patchscale import report, studies

    for folder in folders:
        if (folder / "trials").is_dir() or not (folder / "results.csv").is_file():
            studies.analyse(studies.RunDirectory(folder))
    page = report.build(folders, out or folders[0] / "report.html")
    print(f"report: {page}")
    if figures:
        for folder in folders:
            for file in report.figures(folder, folder / "figures"):
                print(f"figure: {file}")
