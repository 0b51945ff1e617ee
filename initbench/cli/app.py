"""The command line: parse, call, print. Heavy imports wait until a command needs them."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from initbench import registry
from initbench.cli.data import data_app
from initbench.cli.options import (
    BackboneOption,
    BackbonesOption,
    Budget,
    By,
    ClassesOption,
    CountedOn,
    DataRootOption,
    DatasetOption,
    DatasetsOption,
    DeviceOption,
    DicePolicy,
    FoldOption,
    FormatOption,
    GridOption,
    JsonOption,
    MarginOption,
    MeasureOption,
    Metric,
    NetSize,
    OutOption,
    PolicyOption,
    Precision,
    PrecisionOption,
    Protocol,
    RecipeOption,
    SeedOption,
    SetOption,
    SharedOption,
    SheetFormat,
    SizeOption,
    SplitOption,
    ThreadsOption,
    ToleranceOption,
    TrainCasesOption,
    What,
    part_options,
    run_options,
)
from initbench.errors import InitbenchError, UsageError

app = typer.Typer(
    name="initbench",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    """Prints the version and ends, before any command is looked at."""
    if asked:
        typer.echo(f"initbench {metadata.version('initbench')}")
        raise typer.Exit


@app.callback()
def initbench(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """How much does weight initialization decide volumetric medical segmentation?

    Crosses initializers with backbones, trains them under fixed seeds, and reports how Dice varies across inits.
    """
    for kind in registry.LISTED:
        for problem in registry.problems(kind).values():
            _say("bold yellow", "warning", problem)


validate_app = typer.Typer(no_args_is_help=True, help="Check a plug-in against its contract.", rich_markup_mode=None)
app.add_typer(validate_app, name="validate")
app.add_typer(data_app, name="data")
recipe_app = typer.Typer(no_args_is_help=True, help="Show, compare or write recipes.", rich_markup_mode=None)
app.add_typer(recipe_app, name="recipe")


@app.command()
def run(
    init: Annotated[
        list[str],
        typer.Option(help="Initializer(s): name, name(key=value), ./file.py:function; comma list or repeated."),
    ],
    backbone: Annotated[list[str], typer.Option(help="Backbone(s), likewise; a variant inline: unetrpp(variant=lung).")],
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Data set(s): name or path of a Decathlon folder. [default: phantom-lung]"),
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds 0 to N-1. [default: 1]", min=1)] = None,
    seed: Annotated[list[int] | None, typer.Option(help="This seed (repeatable), instead of --seeds.", min=0)] = None,
    budget: Annotated[Budget, typer.Option(help="Steps: smoke (a minute on a CPU), short (ten), paper.")] = Budget.paper,
    protocol: Annotated[
        Protocol, typer.Option(help="equal-total: a pretext's steps come off the budget; equal-finetune: on top of it.")
    ] = Protocol.equal_total,
    placebo: Annotated[
        bool, typer.Option(help="Run default drawn again, too, where others are compared with it under two or more seeds.")
    ] = True,
    size: SizeOption = NetSize.paper,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    jobs: Annotated[int, typer.Option(help="Runs at a time.", min=1)] = 1,
    threads: ThreadsOption = 1,
    data_root: DataRootOption = None,
    out: OutOption = Path("runs"),
    split: SplitOption = None,
    fold: FoldOption = None,
    train_cases: TrainCasesOption = None,
    recipe: RecipeOption = None,
    set_: SetOption = None,
    fix: Annotated[
        list[str] | None,
        typer.Option(
            help="Stream that every seed draws as seed 0 does, to see the variance of the others: construct, init, head, order, "
            "augment, dropout or pretext (repeatable)."
        ),
    ] = None,
    save_predictions: Annotated[bool, typer.Option(help="Keep label maps of the reported cases as NIfTI.")] = False,
    distances: Annotated[
        bool, typer.Option("--distances", help="Measure HD95 and surface Dice in mm; seconds a case for large CT.")
    ] = False,
    nsd_tolerance: ToleranceOption = 2.0,
    checkpoint_every: Annotated[float, typer.Option(help="Minutes between checkpoints of a stage.", min=0)] = 5.0,
    json: JsonOption = False,
) -> None:
    """Run inits x backbones x datasets x seeds; what is there already is not run again."""
    from initbench.cli.run import run_command

    if seeds is not None and seed:
        raise UsageError("--seeds N (0 to N-1) and --seed I exclude each other")
    options = run_options(budget, size, device, precision, threads, data_root, split, recipe, set_)
    run_command(
        init=init,
        backbone=backbone,
        dataset=dataset or ["phantom-lung"],
        seeds=list(dict.fromkeys(seed)) if seed else list(range(seeds or 1)),
        protocol=protocol.value,
        placebo=placebo,
        jobs=jobs,
        json=json,
        options=options
        | {
            "out": out,
            "save_predictions": save_predictions,
            "distances": distances,
            "nsd_tolerance": nsd_tolerance,
            "fixed": tuple(sorted(set(fix or ()))),
            "checkpoint_every": 60 * checkpoint_every,
        }
        | part_options(fold, train_cases),
    )


@app.command()
def plan(
    init: Annotated[list[str], typer.Option(help="Initializer(s), as for run.")],
    backbone: Annotated[list[str], typer.Option(help="Backbone(s), likewise.")],
    dataset: Annotated[list[str] | None, typer.Option(help="Data set(s). [default: phantom-lung]")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds 0 to N-1. [default: 1]", min=1)] = None,
    seed: Annotated[list[int] | None, typer.Option(help="This seed (repeatable), instead of --seeds.", min=0)] = None,
    budget: Annotated[Budget, typer.Option(help="Steps: smoke, short or paper.")] = Budget.paper,
    protocol: Annotated[Protocol, typer.Option(help="Who pays for a pretext's steps.")] = Protocol.equal_total,
    placebo: Annotated[bool, typer.Option(help="With the placebo that run adds.")] = True,
    size: SizeOption = NetSize.paper,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    jobs: Annotated[int, typer.Option(help="Runs at a time.", min=1)] = 1,
    threads: ThreadsOption = 1,
    data_root: DataRootOption = None,
    out: OutOption = Path("runs"),
    split: SplitOption = None,
    fold: FoldOption = None,
    train_cases: TrainCasesOption = None,
    recipe: RecipeOption = None,
    set_: SetOption = None,
    fix: Annotated[list[str] | None, typer.Option(help="Stream that every seed draws as seed 0 does (repeatable).")] = None,
    measure: MeasureOption = False,
    sd: Annotated[
        str | None, typer.Option(help="Instead of pilot runs: SDs of seed, init × case and residual in Dice points, as 1.5,3,10.")
    ] = None,
    format_: FormatOption = SheetFormat.table,
) -> None:
    """Show what `run` would do with the same options: runs, hours, disk, and the differences it could find. Runs nothing."""
    from initbench.cli.plan import plan_command

    if seeds is not None and seed:
        raise UsageError("--seeds N (0 to N-1) and --seed I exclude each other")
    options = run_options(budget, size, device, precision, threads, data_root, split, recipe, set_)
    plan_command(
        init=init,
        backbone=backbone,
        dataset=dataset or ["phantom-lung"],
        seeds=list(dict.fromkeys(seed)) if seed else list(range(seeds or 1)),
        protocol=protocol.value,
        placebo=placebo,
        jobs=jobs,
        measure=measure,
        sds=sd,
        form=format_.value,
        options=options | {"out": out, "fixed": tuple(sorted(set(fix or ())))} | part_options(fold, train_cases),
    )


@app.command()
def reproduce(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Argument(help="Published table or figure, as lwi:table-6; all that there are without it.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="This data set instead of the published one.")] = None,
    backbone: Annotated[str | None, typer.Option(help="This network instead of the published ones.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Seeds 0 to N-1. [default: 3, of a report all]", min=1)] = None,
    seed: Annotated[list[int] | None, typer.Option(help="This seed (repeatable), instead of --seeds.", min=0)] = None,
    budget: Annotated[Budget, typer.Option(help="Steps: smoke, short or paper.")] = Budget.paper,
    size: SizeOption = NetSize.paper,
    placebo: Annotated[bool, typer.Option(help="Run default drawn again, too.")] = True,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    jobs: Annotated[int, typer.Option(help="Runs at a time.", min=1)] = 1,
    threads: ThreadsOption = 1,
    data_root: DataRootOption = None,
    out: OutOption = Path("runs"),
    split: SplitOption = None,
    recipe: RecipeOption = None,
    set_: SetOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run, for how long, and which data are missing.")
    ] = False,
    measure: MeasureOption = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="From the runs that are there.")] = False,
    shared_seeds: SharedOption = False,
    margin: MarginOption = 0.5,
    plot: Annotated[Path | None, typer.Option(help="Draw it: a .png, .svg or .pdf.")] = None,
    format_: FormatOption = SheetFormat.table,
    json: JsonOption = False,
) -> None:
    """Run what is missing of a published table or figure, and show it beside what was measured."""
    from initbench.cli.reproduce import list_command, reproduce_command
    from initbench.published.trials import Overrides

    form = "json" if json else format_.value
    if name is None:
        _check_listing(ctx)
        list_command(form)
        return
    if seeds is not None and seed:
        raise UsageError("--seeds N (0 to N-1) and --seed I exclude each other")
    if dry_run and report_only:
        raise UsageError("--dry-run and --report-only exclude each other")
    if measure and not dry_run:
        raise UsageError("--measure goes with --dry-run, which says how long runs will take")
    if dry_run and (plot is not None or shared_seeds):
        raise UsageError("--plot and --shared-seeds are of what was measured; --dry-run runs nothing")
    if report_only and not placebo:
        raise UsageError("--no-placebo says what is run, and --report-only runs nothing")
    reproduce_command(
        name,
        overrides=Overrides(dataset, backbone, size.value, budget.value, recipe, tuple(set_ or ()), split),
        seeds=sorted(set(seed)) if seed else None if seeds is None else range(seeds),
        placebo=placebo,
        dry_run=dry_run,
        measure=measure,
        report_only=report_only,
        shared=shared_seeds,
        margin=margin,
        jobs=jobs,
        plot=plot,
        form=form,
        options=run_options(budget, size, device, precision, threads, data_root, split, recipe, []) | {"out": out},
    )


def _check_listing(ctx: typer.Context) -> None:
    """Refuses options of a table where the list of them is asked for."""
    sources = {name: ctx.get_parameter_source(name) for name in ctx.params if name not in ("format_", "json")}
    strange = [name.strip("_").replace("_", "-") for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if strange:
        raise UsageError(f"--{strange[0]}: say which table or figure; `initbench reproduce` lists them")


@app.command()
def status(
    out: OutOption = Path("runs"),
    watch: Annotated[bool, typer.Option("--watch", help="Look again every two seconds until all have ended.")] = False,
    json: JsonOption = False,
) -> None:
    """Show how far a study is: state and step of every run, and the time left."""
    from initbench.cli.status import status_command

    status_command(out, watch=watch, json=json)


@app.command()
def retry(
    failed: Annotated[bool, typer.Option("--failed", help="What failed.")] = False,
    all_: Annotated[bool, typer.Option("--all", help="What failed, was interrupted or never began.")] = False,
    out: OutOption = Path("runs"),
    jobs: Annotated[int, typer.Option(help="Runs at a time.", min=1)] = 1,
    json: JsonOption = False,
) -> None:
    """Run again, as it was asked for, what has no result."""
    from initbench.cli.run import retry_command

    if failed == all_:
        raise UsageError("retry takes --failed or --all")
    retry_command(out, jobs, everything=all_, json=json)


@app.command()
def verify(
    runs: Annotated[list[Path], typer.Argument(help="Folder(s) of runs, or folders that hold some.")],
    steps: Annotated[int, typer.Option(help="First steps that are trained again and compared.", min=1)] = 20,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:i. [default: as the run had it]")] = None,
    data_root: DataRootOption = None,
    json: JsonOption = False,
) -> None:
    """Check that runs are what they say: files, Dice made anew, first steps trained again. Exit code 1 if not."""
    from initbench.cli.verify import verify_command

    verify_command(runs, steps=steps, device=device, data_root=data_root, json=json)


@app.command()
def measure(
    runs: Annotated[list[Path], typer.Argument(help="Folder(s) of runs, or folders that hold some.")],
    nsd_tolerance: ToleranceOption = 2.0,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:i. [default: as the run had it]")] = None,
    data_root: DataRootOption = None,
    json: JsonOption = False,
) -> None:
    """Add HD95 and surface Dice to finished runs, from their predictions or weights. Exit code 1 if one is refused."""
    from initbench.cli.measure import measure_command

    measure_command(runs, tolerance=nsd_tolerance, device=device, data_root=data_root, json=json)


@app.command()
def pretrain(
    init: Annotated[str, typer.Option(help="Initializer, with its parameters inline.")],
    backbone: BackboneOption,
    weights: Annotated[Path, typer.Option(help="File to write: .safetensors, or .pth as nnU-Net v2 reads it.")],
    dataset: DatasetOption = "phantom-lung",
    seed: SeedOption = 0,
    budget: Annotated[Budget, typer.Option(help="Its pretext share is trained (recipe: pretext.share).")] = Budget.paper,
    size: SizeOption = NetSize.paper,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    threads: ThreadsOption = 1,
    data_root: DataRootOption = None,
    split: SplitOption = None,
    fold: FoldOption = None,
    train_cases: TrainCasesOption = None,
    recipe: RecipeOption = None,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Write the weights of an init, to train from elsewhere: the init stage of `run` alone, on the split's training cases."""
    from initbench.cli.pretrain import pretrain_command

    options = part_options(fold, train_cases)
    options |= run_options(budget, size, device, precision, threads, data_root, split, recipe, set_)
    pretrain_command(init, backbone, dataset, seed, weights, json=json, options=options)


@app.command()
def diagnose(
    init: Annotated[list[str], typer.Option(help="Initializer(s); comma list or repeated.")],
    backbone: BackboneOption,
    dataset: DatasetOption = "phantom-lung",
    seed: SeedOption = 0,
    budget: Annotated[Budget, typer.Option(help="A learned init trains its pretext share of it.")] = Budget.paper,
    size: SizeOption = NetSize.paper,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.auto,
    threads: ThreadsOption = 1,
    data_root: DataRootOption = None,
    split: SplitOption = None,
    fold: FoldOption = None,
    train_cases: TrainCasesOption = None,
    recipe: RecipeOption = None,
    set_: SetOption = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it: a .png, .svg or .pdf.")] = None,
    json: JsonOption = False,
) -> None:
    """Show what an init does to signals at step 0: activation and gradient scale per layer, dead units, effective rank."""
    from initbench.cli.diagnose import diagnose_command

    options = part_options(fold, train_cases)
    options |= run_options(budget, size, device, precision, threads, data_root, split, recipe, set_)
    diagnose_command(init, backbone, dataset, seed, plot, json=json, options=options)


@app.command("list")
def list_(
    what: Annotated[What | None, typer.Argument(help="One kind; all of them without it.")] = None, json: JsonOption = False
) -> None:
    """List initializers, backbones, data sets and recipes."""
    from initbench.cli.show import list_command

    list_command(what.value if what else None, json=json)


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="Name of a component or recipe, or folder of a run.")], json: JsonOption = False
) -> None:
    """Describe one initializer, backbone, data set, recipe or run."""
    from initbench.cli.show import describe_command

    describe_command(name, json=json)


@app.command()
def doctor(
    backbone: Annotated[str, typer.Option(help="Backbone to train for a few steps, at tiny size.")] = "unetr",
    device: DeviceOption = "auto",
    threads: ThreadsOption = 1,
    data_root: DataRootOption = None,
    out: OutOption = Path("runs"),
    json: JsonOption = False,
) -> None:
    """Tell whether this machine is fit for runs: versions, devices, data, plug-ins, determinism, speed. Exit code 1 if not."""
    from initbench.cli.doctor import doctor_command

    doctor_command(device, threads, backbone, data_root, out, json=json)


@app.command()
def leaderboard(
    out: OutOption = Path("runs"),
    dataset: DatasetsOption = None,
    backbone: BackbonesOption = None,
    by: Annotated[
        By, typer.Option(help="A table per block (backbone × data set), or pooled over the blocks of each.")
    ] = By.block,
    against: Annotated[str, typer.Option(help="The init that the others are compared with.")] = "default",
    margin: MarginOption = 0.5,
    dice_policy: PolicyOption = DicePolicy.reference_mask,
    classes: ClassesOption = None,
    grid: GridOption = CountedOn.native,
    shared_seeds: SharedOption = False,
    letters: Annotated[
        bool, typer.Option("--letters", help="Letters over all pairs: inits that share one are not told apart.")
    ] = False,
    format_: FormatOption = SheetFormat.table,
    json: JsonOption = False,
) -> None:
    """Show, per backbone and data set, each init's Dice, its seed SD, the verdict against default, and its rank."""
    from initbench.cli.statistics import leaderboard_command, read

    study = read(out, dataset or [], backbone or [], dice_policy.value, classes, shared=shared_seeds, grid=grid.value)
    leaderboard_command(study, by.value, against, margin, "json" if json else format_.value, letters=letters)


@app.command("classes")
def classes_(
    out: OutOption = Path("runs"),
    dataset: DatasetsOption = None,
    backbone: BackbonesOption = None,
    metric: Annotated[Metric, typer.Option(help="HD95 in mm and surface Dice: of runs that measured them.")] = Metric.dice,
    dice_policy: PolicyOption = DicePolicy.reference_mask,
    classes: ClassesOption = None,
    grid: GridOption = CountedOn.native,
    format_: FormatOption = SheetFormat.table,
) -> None:
    """Show each init per class, as papers' tables do, and what it predicts where the reference has nothing."""
    from initbench.cli.statistics import classes_command, read

    study = read(out, dataset or [], backbone or [], dice_policy.value, classes, shared=False, grid=grid.value)
    classes_command(study, metric.value, format_.value)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="Initializer, as its row is called.")],
    second: Annotated[str, typer.Argument(help="The one it is compared with.")] = "default",
    out: OutOption = Path("runs"),
    dataset: DatasetsOption = None,
    backbone: BackbonesOption = None,
    margin: MarginOption = 0.5,
    dice_policy: PolicyOption = DicePolicy.reference_mask,
    classes: ClassesOption = None,
    grid: GridOption = CountedOn.native,
    shared_seeds: SharedOption = False,
    format_: FormatOption = SheetFormat.table,
) -> None:
    """Say what can be claimed of two inits: for new seeds and cases, for these cases, for these weights."""
    from initbench.cli.statistics import compare_command, read

    study = read(out, dataset or [], backbone or [], dice_policy.value, classes, shared=shared_seeds, grid=grid.value)
    compare_command(study, first, second, margin, format_.value)


@app.command()
def variance(
    out: OutOption = Path("runs"),
    dataset: DatasetsOption = None,
    backbone: BackbonesOption = None,
    across: Annotated[bool, typer.Option("--across", help="Seed SDs of the inits, pooled over the blocks.")] = False,
    dice_policy: PolicyOption = DicePolicy.reference_mask,
    classes: ClassesOption = None,
    grid: GridOption = CountedOn.native,
    shared_seeds: SharedOption = False,
    format_: FormatOption = SheetFormat.table,
) -> None:
    """Show where the spread of Dice comes from: init, seed, case, their interactions, and what is left."""
    from initbench.cli.statistics import read, variance_command

    study = read(out, dataset or [], backbone or [], dice_policy.value, classes, shared=shared_seeds, grid=grid.value)
    variance_command(study, across, format_.value)


@app.command()
def report(
    out: OutOption = Path("runs"),
    dataset: DatasetsOption = None,
    backbone: BackbonesOption = None,
    html: Annotated[Path | None, typer.Option(help="File to write. [default: report.html in the folder of runs]")] = None,
    against: Annotated[str, typer.Option(help="The init that the others are compared with.")] = "default",
    margin: MarginOption = 0.5,
    dice_policy: PolicyOption = DicePolicy.reference_mask,
    classes: ClassesOption = None,
    grid: GridOption = CountedOn.native,
    shared_seeds: SharedOption = False,
) -> None:
    """Write a study as one HTML page: leaderboards to sort, charts, cases. It needs no network."""
    from initbench.cli.report_page import report_command
    from initbench.cli.statistics import read

    study = read(out, dataset or [], backbone or [], dice_policy.value, classes, shared=shared_seeds, grid=grid.value)
    report_command(study, html or out / "report.html", against, margin)


@app.command()
def power(
    out: OutOption = Path("runs"),
    dataset: DatasetsOption = None,
    backbone: BackbonesOption = None,
    cases: Annotated[list[int] | None, typer.Option(help="Reported cases (repeatable). [default: the pilot's]", min=2)] = None,
    sd: Annotated[
        str | None, typer.Option(help="Instead of pilot runs: SDs of seed, init × case and residual in Dice points, as 1.5,3,10.")
    ] = None,
    format_: FormatOption = SheetFormat.table,
) -> None:
    """Show what difference so many seeds and cases can find, from pilot runs or stated SDs."""
    from initbench.cli.statistics import power_command, read, stated_power_command

    if sd is not None:
        stated_power_command(sd, cases or [], format_.value)
        return
    study = read(out, dataset or [], backbone or [], "reference-mask", None, shared=False, grid="native")
    power_command(study, cases or [], format_.value)


@validate_app.command("backbone")
def validate_backbone(
    name: Annotated[
        str, typer.Argument(help="Backbone: name, name(variant=...) or ./file.py:function; all variants without one.")
    ],
    size: SizeOption = NetSize.tiny,
    patch: Annotated[str | None, typer.Option(help="D,H,W in voxels. [default: a small one with three sizes]")] = None,
    in_channels: Annotated[
        list[int] | None, typer.Option(help="Input channels (repeatable). [default: 1 and 2]", min=1, show_default=False)
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check what a backbone promises: outputs, gradients, levels, heads, weights, determinism. On the CPU; exit code 1 if not."""
    from initbench.cli.validate import validate_backbone_command

    validate_backbone_command(name, size.value, patch, in_channels, json=json)


@validate_app.command("init")
def validate_init(
    name: Annotated[str, typer.Argument(help="Initializer: name, name(key=value), outer(inner) or ./file.py:function.")],
    backbone: Annotated[
        list[str] | None,
        typer.Option(
            help="Backbone(s) at tiny size; comma list or repeated. [default: probe (a small network of many kinds of "
            "parameters), unetr, unetrpp]",
            show_default=False,
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Budget of a learned one. [default: 4]", min=1, show_default=False)] = None,
    json: JsonOption = False,
) -> None:
    """Check what an initializer promises: only values change, by its seed, within its budget. On the CPU; exit code 1 if not."""
    from initbench.cli.validate import validate_init_command

    validate_init_command(name, backbone or [], steps, json=json)


@recipe_app.command("show")
def recipe_show(
    name: Annotated[
        str, typer.Argument(help='Recipe: name or TOML file, or with overrides "lung(backbone=unetrpp, size=tiny)".')
    ],
    backbone: Annotated[str, typer.Option(help="With the overrides of this backbone.")] = "",
    size: SizeOption = NetSize.paper,
    budget: Annotated[Budget, typer.Option(help="With the overrides of this budget.")] = Budget.paper,
    set_: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Show every setting of a recipe and where it comes from: file, override, --set or default."""
    from initbench.cli.recipe import show_command
    from initbench.recipes.origins import Selected

    show_command(name, Selected("", size.value, backbone, budget.value, tuple(set_ or ())), json=json)


@recipe_app.command("diff")
def recipe_diff(
    first: Annotated[str, typer.Argument(help="Recipe, as for show.")],
    second: Annotated[str | None, typer.Argument(help="The other. [default: the first, with --set]")] = None,
    backbone: Annotated[str, typer.Option(help="With the overrides of this backbone, where a recipe does not say.")] = "",
    size: SizeOption = NetSize.paper,
    budget: Annotated[Budget, typer.Option(help="With the overrides of this budget, likewise.")] = Budget.paper,
    set_: Annotated[list[str] | None, typer.Option("--set", help="section.field=value over the second (repeatable).")] = None,
    json: JsonOption = False,
) -> None:
    """Show where two recipes differ, setting by setting, as "lung(size=paper)" and "lung(size=tiny)"."""
    from initbench.cli.recipe import diff_command
    from initbench.recipes.origins import Selected

    diff_command(first, second, Selected("", size.value, backbone, budget.value, tuple(set_ or ())), json=json)


@recipe_app.command("new")
def recipe_new(
    dataset: Annotated[str, typer.Argument(help="Data set: name or path.")],
    data_root: DataRootOption = None,
    out: Annotated[Path | None, typer.Option(help="File to write. [default: printed]")] = None,
    json: JsonOption = False,
) -> None:
    """Write a commented recipe for a data set from its training cases, to be edited and given to run --recipe."""
    from initbench.cli.recipe import new_command

    new_command(dataset, data_root, out, json=json)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: people get one line, not a traceback."""
    try:
        app(args=arguments, standalone_mode=True)
    except InitbenchError as error:
        _say("bold red", "error", str(error))
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say("bold red", "error", "interrupted")
        sys.exit(130)
    except BrokenPipeError:  # `initbench list | head`
        sys.stderr.close()
        sys.exit(1)


def _say(style: str, kind: str, text: str) -> None:
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[{style}]{kind}:[/] {_escape(text)}")


def _escape(text: Any) -> str:
    from rich.markup import escape

    return escape(str(text))
