"""The words that people choose among, and what they get without choosing.

They stand here once. The module imports nothing, so that the command line knows them at no cost.
"""

from __future__ import annotations

from typing import Literal

# Steps of a run. Recipes state how many steps each of these words means.
Budget = Literal["smoke", "short", "paper"]
# Who pays for the steps of a pretext: the run's budget, or nobody.
Protocol = Literal["equal-total", "equal-finetune"]
SweepProtocol = Literal[Protocol, "both"]
# What two regimens have in common: the steps, or the passes through the network.
RegimenBudget = Literal["steps", "compute"]
# Arithmetic of the forward and backward pass; auto takes bf16 where the device is fast at it.
PrecisionChoice = Literal["auto", "bf16", "float32"]

# Whose voxels predictions are counted on: the image's own, or the ones that networks see.
CountedOn = Literal["native", "resampled"]
# What a class scores that the reference lacks; initbench/dice.py says it of each.
DicePolicy = Literal["reference-mask", "monai", "nnunet", "empty-is-one", "worst"]
# What it scores in published tables: one of them rewards mistakes, so nothing else is judged by it.
TablePolicy = Literal[DicePolicy, "transunet"]
# What a table per class shows.
Metric = Literal["dice", "hd95", "nsd", "ravd", "assd", "mssd"]
# Over which blocks a leaderboard pools.
Grouping = Literal["backbone", "dataset", "all"]
LeaderboardBy = Literal["block", Grouping]
SheetForm = Literal["table", "md", "csv", "json", "latex"]

# Sources of random numbers in a run, which can be fixed apart.
Stream = Literal["construct", "init", "head", "order", "augment", "dropout", "pretext", "regimen"]

# What `initbench list` lists.
Listed = Literal["inits", "backbones", "datasets", "regimens", "executors", "recipes"]

# What a study has when nobody says otherwise: the data set that needs no download, the init and the regimen that others are
# compared with, who does the runs, and the Dice points within which two inits count as equivalent.
DATASET = "phantom-lung"
BASELINE = "default"
REGIMEN = "plain"
EXECUTOR = "local"
RAY = "ray"
MARGIN = 0.5

# At which `diagnose` cuts a pretext short: the UNETR of the paper then takes about a minute on a CPU.
PRETEXT_STEPS = 10
