"""Which kind of picture a file is, by its content, and what to do with kinds that nothing here decodes."""

import re
from importlib import import_module
from pathlib import PurePath

READABLE_PICTURES = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif"),
    *(".avif", ".avifs", ".heic", ".heif", ".hif"),
)
"""Extensions of the kinds that `open_picture` reads. HEIC needs the package that `named_kind` names."""

HEIC_ADVICE = "install a decoder: pip install pillow-heif"
RAW = "a camera's raw file"
_ADVICE = {
    "HEIC": HEIC_ADVICE,
    "JPEG XL": "convert it to PNG first: djxl FILE OUTPUT.png",
    "JPEG 2000": "convert it to TIFF or PNG first: opj_decompress -i FILE -o OUTPUT.tif",
    RAW: "develop it to a 16-bit TIFF first, with darktable, RawTherapee or dcraw -T -6",
    "SVG": "it is made of shapes, not pixels: export it at the size you need, as with rsvg-convert or Inkscape",
    "a Photoshop document": "export it as TIFF or PNG",
    "a GIMP document": "export it as TIFF or PNG",
    "PDF": "extract its pictures (pdfimages -all FILE page), or render its pages (pdftoppm -r 300 -tiff FILE page)",
    "PostScript": "render it first: gs -sDEVICE=png16m -r300 -o OUTPUT.png FILE",
    "a video": "name it by itself, aesop upscale FILE, or extract its frames: ffmpeg -i FILE frame%06d.png",
    "OpenEXR": "convert it to a floating-point TIFF first",
    "Radiance HDR": "convert it to a floating-point TIFF first",
    "an icon": "convert it to PNG first",
    "DjVu": "convert it to TIFF first: ddjvu -format=tiff FILE OUTPUT.tif",
    "a picture of a kind that is not read here": "convert it to PNG or TIFF first",
}
_EXTENSIONS = {
    "HEIC": ".heic .heif .hif",
    "JPEG XL": ".jxl",
    "JPEG 2000": ".jp2 .j2k .jpf .jpx .jpm .j2c",
    RAW: ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl "
    ".sr2 .srf .srw .x3f",
    "SVG": ".svg .svgz",
    "a Photoshop document": ".psd .psb",
    "a GIMP document": ".xcf",
    "PDF": ".pdf",
    "PostScript": ".eps .ps .ai",
    "a video": ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .wmv .flv .mts .m2ts .3gp .ogv",
    "OpenEXR": ".exr",
    "Radiance HDR": ".hdr",
    "an icon": ".ico .icns .cur",
    "DjVu": ".djvu .djv",
    "a picture of a kind that is not read here": ".tga .dds .qoi .pcx .ppm .pgm .pbm .pnm .pam .pfm .fits .dcm .wmf .emf",
}
_KIND_OF_EXTENSION = {extension: kind for kind, names in _EXTENSIONS.items() for extension in names.split()}
# The first match counts; the names of readable kinds are lower case.
_SIGNATURES = (
    (rb"\x89PNG\r\n\x1a\n", "png"),
    (rb"\xff\xd8\xff", "jpeg"),
    (rb"RIFF....WEBP", "webp"),
    (rb"RIFF....AVI |\x1a\x45\xdf\xa3|\0\0\x01\xba|FLV\x01|OggS", "a video"),
    (rb"(?:II\*\0|MM\0\*).{4}CR|II\*\0\x10\0\0\0CR|II[RU]|MMOR|FUJIFILMCCD-RAW|FOVb|IIII", RAW),
    (rb"II[*+]\0|MM\0[*+]", "tiff"),
    (rb"BM", "bmp"),
    (rb"GIF8[79]a", "gif"),
    (rb"....ftyp(?:avif|avis|.{8,56}avi[fs])", "avif"),
    (rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", "heic"),
    (rb"....ftypcrx ", RAW),
    (rb"....ftyp", "a video"),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "JPEG 2000"),
    (rb"8BPS", "a Photoshop document"),
    (rb"gimp xcf", "a GIMP document"),
    (rb"%PDF", "PDF"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript"),
    (rb"\x76\x2f\x31\x01", "OpenEXR"),
    (rb"#\?RADIANCE|#\?RGBE", "Radiance HDR"),
    (rb"\0\0[\x01\x02]\0|icns", "an icon"),
    (rb"AT&TFORM", "DjVu"),
    (rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml.*)?(?:<!--.*|<!DOCTYPE.*)?<svg", "SVG"),
    (rb"qoif|DDS |P[1-7]\s|P[Ff]\s", "a picture of a kind that is not read here"),
)
# What files that are called like pictures often are instead.
_NO_PICTURES = (
    (rb"(?i)\s*<(!doctype html|html|head|body|\?xml)", "a web page: open its address in a browser and save the picture"),
    (rb"version https://git-lfs", "a git-lfs pointer to the picture: run `git lfs pull` in its repository"),
    (
        rb".{0,3}PNG\r?\r?\n|\xef\xbf\xbd.{0,24}(JFIF|Exif)",
        "a picture that was damaged when it was copied as text: copy it again in binary mode",
    ),
    (rb"PK\x03\x04|\x1f\x8b\x08|Rar!|7z\xbc\xaf", "an archive: unpack it first"),
    (rb"\0+\Z", "nothing but zeros: copy or download it again"),
    (rb"[\t\n\r -~]+\Z", "text: see what it says"),
)
_COMPILED = tuple((re.compile(pattern, re.DOTALL), kind) for pattern, kind in _SIGNATURES)
_HEAD = 1024  # bytes


def kind_of(data: bytes) -> str | None:
    """Return the kind of a file: png, jpeg, webp, tiff, bmp, gif, avif, heic, a kind not read here, or None."""
    head = data[:_HEAD]
    return next((kind for pattern, kind in _COMPILED if pattern.match(head)), None)


def advice_on(kind: str) -> str:
    """Say what to do with a kind that is not read here."""
    return _ADVICE[kind]


def kind_of_extension(extension: str) -> str | None:
    """Return the kind that is not read, or not without a package, to which files of this extension belong."""
    return _KIND_OF_EXTENSION.get(extension.lower())


def named_kind(extension: str) -> str | None:
    """Say what files of an extension (`.nef`) are and what to do with them, if this installation does not read them.

    None: they are read, or are no pictures.
    """
    kind = kind_of_extension(extension)
    if kind is None or (kind == "HEIC" and heic_is_installed()):
        return None
    return f"{kind}: {_ADVICE[kind]}"


def heic_is_installed() -> bool:
    try:
        import_module("pillow_heif")
    except ImportError:
        return False
    return True


def unreadable(path: PurePath, data: bytes) -> str:
    """Say why a file, whose kind has no reader, is not read."""
    kind = kind_of(data)
    instead = next((what for pattern, what in _NO_PICTURES if re.match(pattern, data[:_HEAD], re.DOTALL)), None)
    kind = kind if kind in _ADVICE else None if instead else kind_of_extension(path.suffix)
    if kind is None and instead:
        return f"{path} is no picture, but {instead}"
    if kind is None:
        return f"{path} is not a supported image: it is no PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF or HEIC file"
    return f"{path} is {kind}, which is not read here: {_ADVICE[kind]}"
