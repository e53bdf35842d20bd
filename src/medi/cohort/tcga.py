"""TCGA metadata: barcodes, studies, hospitals, clinical tables. Every lookup starts from the barcode.

A slide's barcode TCGA-<site>-<participant>-<sample>-<portion>-<section> names the patient, the tissue source site
and the preparation (DX: FFPE; TS, BS, MS: frozen), also where a table lost them: pandas reads site `NA` as missing.
"""

import re
from collections.abc import Iterable
from functools import partial

import pandas as pd

from medi.core.errors import MediError

_BARCODE = re.compile(
    r"(?P<slide>(?P<patient>TCGA-(?P<site_code>[A-Z0-9]{2})-[A-Z0-9]{4})"
    r"(?:-(?P<sample_type>\d{2})[A-Z]?(?:-\d{2}[A-Z]?(?:-(?P<section>[A-Z]{2}[A-Z0-9]{0,2}))?)?)?)(?![A-Za-z0-9])"
)
PREPARATIONS = {"DX": "FFPE", "TS": "frozen", "BS": "frozen", "MS": "frozen"}

MISSING = (  # GDC's and the older TCGA tables' spellings of "not known"; `NA` is a site code and not among them
    "",
    "'--",
    "--",
    "not reported",
    "Not Reported",
    "unknown",
    "Unknown",
    "not allowed to collect",
    "Not Allowed To Collect",
    "[Not Available]",
    "[Not Applicable]",
    "[Not Evaluated]",
    "[Unknown]",
    "[Discrepancy]",
)

STUDIES = {
    "ACC": "Adrenocortical_carcinoma",
    "BLCA": "Bladder_Urothelial_Carcinoma",
    "BRCA": "Breast_invasive_carcinoma",
    "CESC": "Cervical_squamous_cell_carcinoma_and_endocervical_adenocarcinoma",
    "CHOL": "Cholangiocarcinoma",
    "COAD": "Colon_adenocarcinoma",
    "DLBC": "Lymphoid_Neoplasm_Diffuse_Large_B-cell_Lymphoma",
    "ESCA": "Esophageal_carcinoma",
    "GBM": "Glioblastoma_multiforme",
    "HNSC": "Head_and_Neck_squamous_cell_carcinoma",
    "KICH": "Kidney_Chromophobe",
    "KIRC": "Kidney_renal_clear_cell_carcinoma",
    "KIRP": "Kidney_renal_papillary_cell_carcinoma",
    "LGG": "Brain_Lower_Grade_Glioma",
    "LIHC": "Liver_hepatocellular_carcinoma",
    "LUAD": "Lung_adenocarcinoma",
    "LUSC": "Lung_squamous_cell_carcinoma",
    "MESO": "Mesothelioma",
    "OV": "Ovarian_serous_cystadenocarcinoma",
    "PAAD": "Pancreatic_adenocarcinoma",
    "PCPG": "Pheochromocytoma_and_Paraganglioma",
    "PRAD": "Prostate_adenocarcinoma",
    "READ": "Rectum_adenocarcinoma",
    "SARC": "Sarcoma",
    "SKCM": "Skin_Cutaneous_Melanoma",
    "STAD": "Stomach_adenocarcinoma",
    "TGCT": "Testicular_Germ_Cell_Tumors",
    "THCA": "Thyroid_carcinoma",
    "THYM": "Thymoma",
    "UCEC": "Uterine_Corpus_Endometrial_Carcinoma",
    "UCS": "Uterine_Carcinosarcoma",
    "UVM": "Uveal_Melanoma",
}
MERGED = "COADREAD"  # colon and rectum as one class: the hub's 31 names; Zenodo's 32 keep them apart
_MERGED_NAMES = (
    "coadread",
    "colorectal adenocarcinoma",
    "colon and rectum adenocarcinoma",
    "colon rectum adenocarcinoma",
)

_CLINICAL = {  # our column: its names in GDC's clinical tables, old and new
    "race": ("race", "demographic.race"),
    "gender": ("gender", "demographic.gender", "sex_at_birth", "demographic.sex_at_birth"),
    "age": ("age_at_index", "demographic.age_at_index"),
}
_CASES = ("case_submitter_id", "cases.submitter_id", "bcr_patient_barcode", "patient")

_MISSPELT = {"international genomics conosrtium": "international genomics consortium"}
_ALIASES = {  # other names of one institution: normalised variant -> normalised name
    "bc cancer agency": "british columbia cancer agency",
    "brigham and women s hospital division of thoracic surgery": "brigham and women s hospital",
    "christiana care": "christiana healthcare",
    "cleveland clinic foundation": "cleveland clinic",
    "emory university winship cancer inst": "emory university",
    "fondazione besta": "milan italy fondazione irccs instituto neuroligico c besta",
    "fox chase": "fox chase cancer center",
    "gundersen lutheran": "gundersen lutheran health system",
    "greenville health systems": "greenville health system",
    "hartford": "hartford hospital",
    "mayo": "mayo clinic",
    "mayo clinic rochester": "mayo clinic",
    "md anderson": "university of texas md anderson cancer center",
    "md anderson cancer center": "university of texas md anderson cancer center",
    "memorial sloan kettering": "memorial sloan kettering cancer center",
    "michigan university": "university of michigan",
    "mskcc": "memorial sloan kettering cancer center",
    "ontario institute for cancer research oicr": "ontario institute for cancer research",
    "roswell": "roswell park",
    "st joseph s hospital arizona": "st joseph s hospital az",
    "st university of colorado denver": "university of colorado denver",
    "tgen": "translational genomics research institute",
    "thoraxklinik": "thoraxklinik at university hospital heidelberg",
    "ucsf": "university of california san francisco",
    "unc": "university of north carolina",
    "university health network": "university health network toronto",
    "washington university": "washington university st louis",
    "yale": "yale university",
    "duke": "duke university",
    "vanderbilt": "vanderbilt university",
}


def barcodes(values: pd.Series) -> pd.DataFrame:
    """The parts of the barcode in each value: slide, patient, site_code, sample_type, section, preparation; or "".

    The barcode may be followed by GDC's file id or a suffix (TCGA-3L-AA1B-01Z-00-DX1.8923A151-....svs).
    """
    row, distinct = pd.factorize(values)  # a slide has thousands of patches
    texts = pd.Series(distinct, dtype="str")
    texts = texts.where(texts.str.contains("TCGA-", regex=False), "")
    matches = [_BARCODE.search(text) if text else None for text in texts]
    found = pd.DataFrame(
        [m.groupdict("") if m else {} for m in matches], columns=list(_BARCODE.groupindex), dtype="str"
    )
    found = found.fillna("")
    found["preparation"] = found["section"].str[:2].map(PREPARATIONS).fillna("").astype("str")
    return found.take(row).set_axis(values.index)


def parse(text: str) -> dict[str, str]:
    """The parts of one barcode, as `barcodes` gives them; MediError where there is none."""
    found = barcodes(pd.Series([text])).iloc[0].to_dict()
    if not found["patient"]:
        raise MediError(f"{text!r} holds no TCGA barcode (TCGA-<site>-<participant>...)")
    return {str(key): str(value) for key, value in found.items()}


def study(name: str) -> str:
    """LUAD for `LUAD`, `TCGA-LUAD`, `Lung_adenocarcinoma` or `lung adenocarcinoma`; COADREAD for the merged class."""
    if code := find_study(name):
        return code
    raise MediError(f"{name!r} is no TCGA study; known: {', '.join(STUDIES)}, or their names ({STUDIES['LUAD']})")


def find_study(name: str) -> str:
    """As `study`, but "" where the name is unknown."""
    plain = name.strip().removeprefix("TCGA-").replace("_", " ").casefold()
    return MERGED if plain in _MERGED_NAMES else _CODES.get(plain, "")


_CODES = {code.casefold(): code for code in STUDIES} | {
    name.replace("_", " ").casefold(): code for code, name in STUDIES.items()
}


def check_classes(classes: Iterable[str]) -> list[str]:
    """Notes on a set of class names; MediError where one study has two names or COADREAD stands beside COAD or READ."""
    named: dict[str, str] = {}
    for name in sorted(classes):
        code = study(name)
        if code in named:
            raise MediError(
                f"classes {named[code]!r} and {name!r} are both {code}; rename one so that they are one class"
            )
        named[code] = name
    if MERGED not in named:
        return []
    if apart := {"COAD", "READ"} & set(named):
        raise MediError(
            f"class {named[MERGED]!r} holds colon and rectum, but {sorted(apart)} stand beside it; merge them"
        )
    return [f"class {named[MERGED]!r} holds colon and rectum (the hub's 31 names; Zenodo's 32 keep them apart)"]


def hospitals(sites: pd.DataFrame, aliases: bool = False) -> dict[str, str]:
    """Site code -> hospital from GDC's code table (columns `TSS Code`, `Source Site`), spelling variants merged.

    `aliases` also merges the known other names of one institution (MSKCC, Memorial Sloan Kettering). A hospital
    carries the spelling that most of its codes have. Codes without a known hospital are left out.
    """
    table = _site_table(sites)
    table = table[~table["Source Site"].str.strip().isin(MISSING)]
    keys = table["Source Site"].map(partial(hospital_key, aliases=aliases))
    spelling = table["Source Site"].str.strip().groupby(keys).agg(lambda names: names.value_counts().index[0])
    return dict(zip(table["TSS Code"], keys.map(spelling)))


def hospital_key(name: str, aliases: bool = False) -> str:
    """One key for all spellings of a hospital: no case, punctuation or company form; for all its names on demand."""
    plain = re.sub(r"[^a-z0-9]+", " ", name.casefold()).strip()
    plain = re.sub(r"^the | inc$", "", plain)
    plain = _MISSPELT.get(plain, plain)
    return _ALIASES.get(plain, plain) if aliases else plain


def add_hospitals(table: pd.DataFrame, sites: pd.DataFrame, aliases: bool = False) -> tuple[pd.DataFrame, list[str]]:
    """The table with a column `hospital` from `site_code`, "" for codes that the code table lacks, and notes."""
    known = hospitals(sites, aliases)
    found = table["site_code"].map(known).fillna("").astype(str)
    lost = sorted(set(table["site_code"][found == ""]) - {""})
    codes, names = table["site_code"][found != ""].nunique(), found[found != ""].nunique()
    notes = [f"hospital from the site code table: {codes} codes, {names} hospitals"]
    notes += [f"{len(lost)} site codes have no known hospital: {', '.join(lost[:10])}"] if lost else []
    return table.assign(hospital=found), notes + _other_study(table, sites)


def _other_study(table: pd.DataFrame, sites: pd.DataFrame) -> list[str]:
    """Slides whose site belongs to another study than their class: READ under COAD betrays a merged class."""
    of_site = {code: find_study(name) for code, name in _site_table(sites)[["TSS Code", "Study Name"]].to_numpy()}
    pairs = pd.DataFrame({"class": table["class"].map(find_study), "site": table["site_code"].map(of_site).fillna("")})
    merged = (pairs["class"] == MERGED) & pairs["site"].isin(["COAD", "READ"])
    odd = pairs[(pairs["class"] != "") & (pairs["site"] != "") & (pairs["class"] != pairs["site"]) & ~merged]
    counts = (odd["class"] + " come from a site of " + odd["site"]).value_counts()
    return [f"{n} rows of class {pair}" for pair, n in counts.head(5).items()]


def _site_table(sites: pd.DataFrame) -> pd.DataFrame:
    if lacking := {"TSS Code", "Source Site", "Study Name"} - set(sites.columns):
        raise MediError(
            f"the site code table lacks {sorted(lacking)}; it needs GDC's columns TSS Code, Source Site, Study Name"
        )
    return sites


def add_clinical(table: pd.DataFrame, clinical: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The table with race, gender and age of each patient from a GDC clinical table, "" without a row, and notes.

    GDC gives a row per treatment, so a patient may have several; where they contradict each other it is an error.
    """
    case = _first_column(clinical, _CASES, "patients")
    sources = {ours: _first_column(clinical, names, ours) for ours, names in _CLINICAL.items()}
    rows = clinical[[case, *sources.values()]].set_axis(["patient", *sources], axis=1).drop_duplicates()
    if (twice := rows["patient"].duplicated()).any():
        patient = rows["patient"][twice].iloc[0]
        raise MediError(
            f"the clinical table contradicts itself on {patient}: {rows[rows['patient'] == patient].values.tolist()}"
        )
    joined = table[["patient"]].merge(rows, on="patient", how="left").set_axis(table.index).fillna("")
    unmatched = table["patient"][~table["patient"].isin(rows["patient"])].nunique()
    notes = [f"{unmatched} patients have no row in the clinical table"] if unmatched else []
    return table.assign(**{name: joined[name].astype(str) for name in sources}), notes


def _first_column(table: pd.DataFrame, names: tuple[str, ...], what: str) -> str:
    for name in names:
        if name in table.columns:
            return name
    raise MediError(f"the clinical table has no column for {what}; expected one of {', '.join(names)}")
