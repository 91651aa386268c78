"""Readers of published data sets, one module a format: files as their authors distribute them -> frozen dataclasses.

* `hermosilla`: React, the 384 enzyme reaction classes of Hermosilla et al. 2021, with their HDF5 proteins;
* `deepfri`: the EC numbers of DeepFRI, several a chain;
* `scannet`: binding sites (PPBS) and B-cell epitopes (BCE) of ScanNet, residue by residue;
* `pdbbind`: the INDEX files and the folders of PDBbind; `bihf_jax.data.molecules` reads the ligands;
* `atom3d`: the LMDB data sets LBA and PSR of ATOM3D;
* `casp`: the table of official CASP13 scores that GraphQA distributes;
* `custom`: a CSV of labels for a user's own folder of structures.

A reader accounts for every line or entry: it is read, or refused with a reason that is kept. `residues` places labels
of residues in a `Protein`; `text` opens the files. Nothing here makes records, and nothing imports JAX.
"""
