"""The doctor for data sets: what is wrong with a folder, file by file, and the remedy."""

from gffnet.data.check.check import check_dataset
from gffnet.data.check.report import Report

__all__ = ["Report", "check_dataset"]
