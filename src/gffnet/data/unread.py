"""Kinds of files that people keep images in and gffnet does not read: how to tell them, and how to convert them."""

import re
from pathlib import Path
from typing import NamedTuple


class Unread(NamedTuple):
    """A kind of files that are not read."""

    what: str
    remedy: str
    """With FILE for its path."""
    signature: str = "(?!)"
    """A regular expression of its first bytes, as latin-1."""
    suffixes: str = ""
    """Of images: files of such names in a folder of images are meant to be among them."""


_FRAMES = "`gffnet predict` takes videos by their suffix, such as .mp4. Elsewhere, give frames: ffmpeg -i FILE %06d.png"
_OPEN_EXR = "Convert it: oiiotool FILE -o image.tif"
_FLATTEN = "Flatten it, and export it as PNG or TIFF"
_SAVE = "Save its images as arrays: np.save('image.npy', "
_AGAIN = "Download the image itself: the address may be wrong, or need a login"
_OUTLINES = "If it holds outlines of objects, have the tool that wrote it draw them as PNG masks"

RAW = Unread(
    "a RAW photograph",
    "Develop it to TIFF or PNG: darktable-cli FILE photo.png, or dcraw -T FILE",
    r"FUJIFILMCCD-RAW|II\x1a\x00{3}HEAPCCDR|IIR[OS]|MMOR|IIU\x00|\x00MRM|FOVb|.{4}ftypcrx|II\*\x00.{4}CR",
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2 "
    ".srf .srw .x3f",
)
"""Most of these files are TIFFs, whose first page is a thumbnail."""

_KINDS = (
    Unread(
        "a HEIC photo",
        "Convert it: heif-convert FILE photo.jpg, or magick FILE photo.jpg",
        r".{4}ftyp(hei|hev|mif1|msf1)",
        ".heic .heif .hif",
    ),
    RAW,
    Unread("a JPEG XL image", "Convert it: djxl FILE image.png", r"\xff\n|\x00{3}\x0cJXL ", ".jxl"),
    Unread("a JPEG XR image", "Convert it: JxrDecApp -i FILE -o image.tif", r"II\xbc\x01", ".hdp .jxr .wdp"),
    Unread("a DjVu document", "Convert it: ddjvu -format=tiff FILE image.tif", r"AT&TFORM", ".djv .djvu"),
    Unread(
        "a drawing in SVG",
        "Render it in pixels: rsvg-convert FILE -o image.png",
        r"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!DOCTYPE svg|<svg)",
        ".svg .svgz",
    ),
    Unread("a PDF document", "Render its pages in pixels: pdftoppm -png -r 150 FILE page", r"%PDF", ".ai .pdf"),
    Unread(
        "PostScript", "Render it in pixels: gs -sDEVICE=png16m -o image.png FILE", r"%!PS|\xc5\xd0\xd3\xc6", ".eps .ps"
    ),
    Unread("a Photoshop document", _FLATTEN, r"8BPS", ".psb .psd"),
    Unread("a document of GIMP or Krita", _FLATTEN, r"gimp xcf", ".kra .ora .xcf"),
    Unread("an OpenEXR image", _OPEN_EXR, r"v/1\x01", ".exr"),
    Unread("a Radiance HDR image", _OPEN_EXR, r"#\?(RADIANCE|RGBE)", ".rgbe"),
    Unread("a DICOM image", f"{_SAVE}pydicom.dcmread('FILE').pixel_array)", r".{128}DICM", ".dcm .dicom .ima"),
    Unread(
        "a medical volume",
        f"{_SAVE}nibabel.load('FILE').dataobj[..., k]) for every slice k",
        r".{344}(n\+1|ni1)\x00|\x5c\x01\x00\x00|NRRD0|ObjectType *= *Image",
        ".mgh .mgz .mha .mhd .nii .nii.gz .nrrd",
    ),
    Unread(
        "an HDF5 or NetCDF file",
        f"{_SAVE}h5py.File('FILE')['NAME'][:])",
        r"\x89HDF\r\n\x1a\n|CDF[\x01\x02\x05]",
        ".h5 .hdf .hdf5 .he5 .nc .nc4",
    ),
    Unread("a FITS file", f"{_SAVE}astropy.io.fits.getdata('FILE'))", r"SIMPLE  =", ".fit .fits .fts"),
    Unread("a MATLAB file", f"{_SAVE}scipy.io.loadmat('FILE')['NAME'])", r"MATLAB [57]", ".mat"),
    Unread("an archive of arrays", f"{_SAVE}np.load('FILE')['NAME'])", suffixes=".npz"),
    Unread("a file of pickle or PyTorch", f"{_SAVE}array)", r"\x80[\x02-\x05]"),
    Unread(
        "a raster image of GDAL",
        "Convert it: gdal_translate FILE image.tif",
        r"EHFA_HEADER_TAG|msid|<VRTDataset|NITF|GRIB|BUFR",
        ".bsq .ecw .img .ntf .sid .vrt",
    ),
    Unread("an archive", "Unpack it", r"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|Rar!|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|.{257}ustar"),
    Unread(
        "a video",
        _FRAMES,
        r".{4}ftyp(?!avi[fs])|.{4}(moov|mdat|wide)|\x1aE\xdf\xa3|FLV\x01|RIFF.{4}AVI |0&\xb2u\x8ef\xcf|OggS|\.RMF"
        r"|\x00\x00\x01[\xb3\xba]|G.{187}G|.{4}G.{191}G",
    ),
    Unread("a pointer of Git LFS in place of the image", "Fetch the image: git lfs pull", r"version https://git-lfs"),
    Unread("a web page", _AGAIN, r"(?i)\s*(<!--.*?-->\s*)*<(!doctype html|html|head|body)"),
    Unread("JSON text", _OUTLINES, r"\s*[\[{]\s*[\]}\[{\"\d-]"),
    Unread("XML text", _OUTLINES, r"\s*<\?xml|\s*<\w+[\s>]"),
)
"""The first that fits counts."""

_SUFFIXES = {suffix: kind for kind in _KINDS for suffix in kind.suffixes.split()}


def unread_suffix(path: Path) -> Unread | None:
    """The kind of a file by its name."""
    name = path.name.lower()
    return _SUFFIXES.get(".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower())


def unread_kind(path: Path, content: bytes) -> Unread | None:
    """The kind of a file that cannot be read, by its first bytes, else by its name; None if neither tells."""
    start, named = content[:1024].decode("latin-1"), unread_suffix(path)
    if named and start.startswith(("PK\x03\x04", "\x1f\x8b")):  # archives are the containers of many formats
        return named
    for kind in _KINDS:
        if re.match(kind.signature, start, re.DOTALL):
            return kind
    is_text = re.fullmatch(r"[\t\r\n -~]+", start) and not re.match(r"P[1-7]\s", start)  # PNM begins with text
    return named or (Unread("text", _AGAIN) if is_text else None)
