"""PDFs for tests: good ones by fpdf2 (a development dependency), bad ones by hand."""

import zlib
from collections.abc import Sequence
from io import BytesIO

from fpdf import FPDF
from pypdf import PdfReader, PdfWriter

FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def pdf(*pages: str) -> bytes:
    """A PDF with one page for each text; an empty text gives a page without any."""
    document = FPDF()
    document.set_font("helvetica", size=11)
    for text in pages:
        document.add_page()
        if text:
            document.multi_cell(0, 6, text)
    return bytes(document.output())


def scanned(pages: int) -> bytes:
    """A PDF whose pages have a drawing each and no text, as a scanner makes them."""
    document = FPDF()
    for _ in range(pages):
        document.add_page()
        document.rect(20, 20, 150, 200, style="F")
    return bytes(document.output())


def encrypted(content: bytes, user_password: str) -> bytes:
    """`content`, encrypted; with an empty password everyone may read it and only changes are restricted."""
    writer = PdfWriter(clone_from=PdfReader(BytesIO(content)))
    writer.encrypt(user_password, "owner", algorithm="AES-256")
    output = BytesIO()
    writer.write(output)
    return output.getvalue()


def by_hand(objects: Sequence[bytes]) -> bytes:
    """A PDF file of numbered `objects`, the first of them its catalogue."""
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    end = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(body))
    return body + b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table) + end


def one_page(contents: bytes) -> bytes:
    """A PDF with one page that has the stream object `contents`."""
    catalogue, pages = b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
    uses = b"/MediaBox [0 0 300 300] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >>"
    return by_hand([catalogue, pages, b"<< /Type /Page /Parent 2 0 R %s >>" % uses, contents, FONT])


def stream(data: bytes, extra: bytes = b"") -> bytes:
    """A stream object."""
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), extra, data)


def packed(line: bytes, times: int) -> bytes:
    """A compressed stream object that unpacks to `times` MiB or so of `line`."""
    compressor, block = zlib.compressobj(9), line * (2**20 // len(line))
    data = b"".join([*(compressor.compress(block) for _ in range(times)), compressor.flush()])
    return stream(data, b"/Filter /FlateDecode")


def page_tree_of_itself() -> bytes:
    """A PDF whose page tree contains itself."""
    return by_hand([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2 >>"])


def page_tree_of_millions() -> bytes:
    """A small PDF whose page tree names the same page a hundred million times."""
    levels = [b"<< /Type /Pages /Count 100000000 /Kids [%s] >>" % (b"%d 0 R " % (n + 3) * 10) for n in range(8)]
    leaf = b"<< /Type /Page /Parent 9 0 R /MediaBox [0 0 9 9] >>"
    return by_hand([b"<< /Type /Catalog /Pages 2 0 R >>", *levels, leaf])
