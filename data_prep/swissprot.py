"""Swiss-Prot out of a Debian package: the proteins with annotations of the Gene Ontology, as of January 2014.

`metastudent-data` (GPL-2+) has them as a BLAST database of 486,000 proteins and 178 million residues. The package is
fetched by `apt-get download` and taken apart by `dpkg-deb`, neither of which needs to be root. Its order of sequences
and titles ``ACCESSION|GO:..,GO:..`` are Debian's; only accession and sequence are taken.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from data_prep.formats.blast import read_protein_database
from data_prep.formats.fasta import FastaRecord
from data_prep.formats.text import FormatError

PACKAGE = "metastudent-data"
DATABASE = "usr/share/metastudent-data/dataset_201401/BPO/goasp.fasta"


def read_swissprot(package: Path | None = None) -> Iterator[FastaRecord]:
    """The proteins of the package; `line` of a record is its number in the database, from 1.

    Args:
      package: the .deb file; None fetches it (225 MB).

    Raises:
      FormatError: no such file, or it has no such database.
      FileNotFoundError: `apt-get` or `dpkg-deb` is not installed.
      RuntimeError: one of them failed; the message has its words.
    """
    with tempfile.TemporaryDirectory(prefix="swissprot-") as scratch:
        if package is None:
            _run("apt-get", "download", PACKAGE, cwd=scratch)
            (package,) = Path(scratch).glob(f"{PACKAGE}_*.deb")
        elif not package.is_file():
            raise FormatError(f"{package}: no such file; leave it out to fetch {PACKAGE}")
        _run("dpkg-deb", "-x", str(package.resolve()), scratch, cwd=scratch)
        for number, (title, sequence) in enumerate(read_protein_database(Path(scratch, DATABASE)), start=1):
            yield FastaRecord(title.split("|")[0], sequence, number)


def _run(*command: str, cwd: str) -> None:
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(f"{command[0]} is not installed; on other systems than Debian give --fasta instead")
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}: {done.stderr.strip()}")
