"""Readers of single files: NIfTI, DICOM, PNG."""
