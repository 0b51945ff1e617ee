"""Facts about public data sets, for people; no reader is among them."""

from __future__ import annotations

from dataclasses import dataclass, replace

_BUCKET = "https://msd-for-monai.s3-us-west-2.amazonaws.com"


@dataclass(frozen=True)
class Decathlon:
    """A task of the Medical Segmentation Decathlon, CC BY-SA 4.0.

    Attributes:
        cases: labelled ones.
        gigabytes: of the archive, roughly, so that nobody is surprised.
        md5: of the archive, as MONAI states it (monai/apps/datasets.py, DecathlonDataset.md5).
    """

    folder: str
    cases: int
    gigabytes: float
    md5: str

    @property
    def url(self) -> str:
        """The address of the archive: the copy that MONAI's tutorials use."""
        return f"{_BUCKET}/{self.folder}.tar"

    @property
    def about_size(self) -> str:
        """The size of the archive, in words."""
        if self.gigabytes >= 1:
            return f"{self.gigabytes:g} GB"
        return f"{1000 * self.gigabytes:g} MB"


DECATHLON = {
    task.folder: task
    for task in (
        Decathlon("Task01_BrainTumour", 484, 7.1, "240a19d752f0d9e9101544901065d872"),
        Decathlon("Task02_Heart", 20, 0.435, "06ee59366e1e5124267b774dbd654057"),
        Decathlon("Task03_Liver", 131, 27.0, "a90ec6c4aa7f6a3d087205e23d4e6397"),
        Decathlon("Task04_Hippocampus", 260, 0.027, "9d24dba78a72977dbd1d2e110310f31b"),
        Decathlon("Task05_Prostate", 32, 0.229, "35138f08b1efaef89d7424d2bcc928db"),
        Decathlon("Task06_Lung", 63, 8.5, "8afd997733c7fc0432f71255ba4e52dc"),
        Decathlon("Task07_Pancreas", 281, 11.5, "4f7080cfca169fa8066d17ce6eb061e4"),
        Decathlon("Task08_HepaticVessel", 303, 8.7, "641d79e80ec66453921d997fbf12a29c"),
        Decathlon("Task09_Spleen", 41, 1.5, "410d4a301da4e5b2f6f86ec3ddba524e"),
        Decathlon("Task10_Colon", 126, 5.8, "bad7a188931dc2f6acf72b08eb6202d0"),
    )
}

# What tables call the tasks that are registered.
SHORT_NAMES = {"Task01_BrainTumour": "brats", "Task04_Hippocampus": "hippocampus", "Task06_Lung": "lung"}

# Data sets of the patients of another one: other splits or other images of them.
PATIENTS_OF = {"btcv": "synapse", "synapse-8": "synapse", "chaos-t1": "chaos"}


@dataclass(frozen=True)
class Prescribed:
    """A registered data set as nnFormer and UNETR++ ask for it: a Decathlon folder of a name of theirs.

    Attributes:
        ids: pattern of its case ids.
    """

    dataset: str
    ids: str


# 282857341/nnFormer@d48aaeb:README.md and nnformer/dataset_json; Amshaker/unetr_plus_plus@dcba1c6:README.md. Their Task06_Lung is
# the Decathlon's.
PRESCRIBED = {
    "Task01_ACDC": Prescribed("acdc", r"patient\d{3}_frame\d{2}"),
    "Task02_Synapse": Prescribed("synapse", r"img\d{4}"),
    "Task03_tumor": Prescribed("brats", r"BRATS_\d{3}"),
}


def prescribed(folder: str) -> Prescribed | None:
    """Returns the data set that nnFormer and UNETR++ keep in a folder of this name, in any case; None where they keep none."""
    for name, task in PRESCRIBED.items():
        if name.lower() == folder.lower():
            return task
    return None


@dataclass(frozen=True)
class Registered:
    """A data set that is got by hand, most of them after a registration: never downloaded here.

    Attributes:
        folders: names of the folder that is looked for, in any case.
        get: where it is to be had, and under what terms.
        layout: how the folder must look.
    """

    folders: tuple[str, ...]
    cases: int | None
    licence: str
    get: str
    layout: str

    @property
    def how(self) -> str:
        """Where to get it and how the folder must look, in one text."""
        return f"Get it: {self.get}. The folder holds {self.layout}"


_ABDOMEN = Registered(
    folders=("Synapse", "BTCV", "Abdomen", "RawData", "Task02_Synapse"),
    cases=30,
    licence="data use agreement of syn3193805; no redistribution",
    get="register at synapse.org, project syn3193805, accept the terms, and unpack Abdomen/RawData.zip",
    layout=(
        "Training/img/img0001.nii.gz and Training/label/label0001.nii.gz (also below RawData/ or Abdomen/RawData/), or "
        "averaged-training-images/ and averaged-training-labels/, or imagesTr/img0001.nii.gz and labelsTr/label0001.nii.gz (as "
        "Task02_Synapse of nnFormer and UNETR++), or it is an nnU-Net raw folder with these ids"
    ),
)
_CHAOS = "https://zenodo.org/records/3431873 (CHAOS_Train_Sets.zip, 0.9 GB; no registration)"
REGISTERED = {
    "synapse": _ABDOMEN,
    "btcv": _ABDOMEN,
    "synapse-8": replace(_ABDOMEN, get="the files of synapse (syn3193805), whose other five organs are background here"),
    "acdc": Registered(
        folders=("ACDC", "Task01_ACDC"),
        cases=200,
        licence="CC BY-NC-SA 4.0 (the challenge's terms)",
        get="https://www.creatis.insa-lyon.fr/Challenge/acdc/databases.html (human heart project, after registration)",
        layout=(
            "patient001/patient001_frame01.nii.gz with patient001_frame01_gt.nii.gz beside it, directly or below training/, "
            "testing/ or database/, or it is an nnU-Net raw folder with these ids, or one of the Decathlon (as Task01_ACDC of "
            "nnFormer and UNETR++: reported frames in imagesTs/, their labels in labelsTs/)"
        ),
    ),
    "chaos": Registered(
        folders=("CHAOS", "CHAOS_Train_Sets", "CHAOS_MR", "CHAOS_CT"),
        cases=20,
        licence="CC BY-NC-SA 4.0",
        get=_CHAOS,
        layout=(
            "MR/1/T2SPIR/DICOM_anon/*.dcm with T2SPIR/Ground/*.png, directly or below Train_Sets/, or it is a copy converted to "
            "NIfTI, an nnU-Net raw folder or one of the Decathlon (MR: classes 1 to 4 are liver, right kidney, left kidney, "
            "spleen; CT: 1 is the liver)"
        ),
    ),
    "chaos-t1": Registered(
        folders=("CHAOS", "CHAOS_Train_Sets"),
        cases=20,
        licence="CC BY-NC-SA 4.0",
        get=_CHAOS,
        layout=(
            "MR/1/T1DUAL/DICOM_anon/InPhase/*.dcm and OutPhase/*.dcm with T1DUAL/Ground/*.png, directly or below Train_Sets/"
        ),
    ),
    "chaos-ct": Registered(
        folders=("CHAOS", "CHAOS_Train_Sets"),
        cases=20,
        licence="CC BY-NC-SA 4.0",
        get=_CHAOS,
        layout="CT/1/DICOM_anon/*.dcm with CT/1/Ground/*.png, directly or below Train_Sets/",
    ),
    "camus": Registered(
        folders=("CAMUS", "CAMUS_public", "database_nifti"),
        cases=1000,
        licence="CC BY-NC-SA 4.0, for research alone",
        get="https://www.creatis.insa-lyon.fr/Challenge/camus/databases.html (human heart project, the NIfTI release)",
        layout=(
            "patient0001/patient0001_2CH_half_sequence.nii.gz with patient0001_2CH_half_sequence_gt.nii.gz beside it, directly "
            "or below database_nifti/, and for the published split database_split/subgroup_training.txt, _validation and _testing"
        ),
    ),
}
