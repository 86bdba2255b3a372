"""For tests: a running rag-service, and PDFs, good ones by fpdf2 (a development dependency) and bad ones by hand."""

import asyncio
import zipfile
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
from fpdf import FPDF
from PIL import Image, ImageDraw, ImageFont
from pypdf import PdfReader, PdfWriter

from tunesmith_rag.pages import Page
from tunesmith_rag.parse import ParseLimits
from tunesmith_rag.parsers import Parsers
from tunesmith_shared.auth import OWNER_HEADER
from tunesmith_shared.clock import now
from tunesmith_shared.database import Database
from tunesmith_shared.files import FileStore
from tunesmith_shared.settings import async_database_url
from tunesmith_shared.tables import File
from tunesmith_shared.testing import Platform, platform_at

_SECONDS = 120

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


async def pages_of(file: Path, name: str, limits: ParseLimits | None = None, first: int = 1) -> list[Page]:
    """The pages of the document in `file` from `first` on, as the service reads them; no process is left."""
    parsers = Parsers(limits or ParseLimits())
    try:
        async with aclosing(parsers.pages(file, name, first)) as pages:
            return [page async for page in pages]
    finally:
        await parsers.close()


def scanned(pages: int) -> bytes:
    """A PDF whose pages have a drawing each and no text, as a scanner makes them."""
    document = FPDF()
    for _ in range(pages):
        document.add_page()
        document.rect(20, 20, 150, 200, style="F")
    return bytes(document.output())


def photographed(*pages: str) -> bytes:
    """A PDF whose pages are pictures of text, as a scanner makes them."""
    pictures = []
    for text in pages:
        picture = Image.new("L", (1240, 800), 255)
        ImageDraw.Draw(picture).multiline_text((100, 120), text, fill=0, font=ImageFont.load_default(32), spacing=14)
        pictures.append(picture)
    output = BytesIO()
    pictures[0].save(output, "PDF", resolution=150, save_all=True, append_images=pictures[1:])
    return output.getvalue()


def word(*blocks: tuple[str, str]) -> bytes:
    """A Word document (DOCX) of headings (`h1` to `h6`) and paragraphs (`p`)."""
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    styles = {kind: f'<w:pPr><w:pStyle w:val="Heading{kind[1]}"/></w:pPr>' for kind, _ in blocks if kind != "p"}
    body = "".join(f"<w:p>{styles.get(kind, '')}<w:r><w:t>{text}</w:t></w:r></w:p>" for kind, text in blocks)
    names = "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{level}"><w:name w:val="heading {level}"/></w:style>'
        for level in range(1, 7)
    )
    package = "http://schemas.openxmlformats.org/package/2006"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    types = "application/vnd.openxmlformats-officedocument.wordprocessingml"
    files = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Default Extension="rels" '
        f'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override '
        f'PartName="/word/document.xml" ContentType="{types}.document.main+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{office}/officeDocument" Target="word/document.xml"/></Relationships>',
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" '
        f'Type="{office}/styles" Target="styles.xml"/></Relationships>',
        "word/document.xml": f"<w:document {space}><w:body>{body}</w:body></w:document>",
        "word/styles.xml": f"<w:styles {space}>{names}</w:styles>",
    }
    output = BytesIO()
    with zipfile.ZipFile(output, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return output.getvalue()


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


@dataclass
class Rag:
    """The service, and the parts of the gateway's work that come before it: saving an upload."""

    platform: Platform

    @property
    def url(self) -> str:
        """The service's address."""
        return self.platform.services["rag"].url

    def headers(self, owner: str) -> dict[str, str]:
        """Return what the gateway sends along on behalf of `owner`."""
        token = (self.platform.data_dir / "secrets" / "service_token").read_text().strip()
        return {"authorization": f"Bearer {token}", OWNER_HEADER: owner}

    def client(self, owner: str = "me") -> httpx.Client:
        """Return a client that calls on behalf of `owner`."""
        return httpx.Client(base_url=self.url, headers=self.headers(owner), timeout=_SECONDS)

    def upload(self, content: bytes, filename: str, owner: str = "me") -> str:
        """Save an upload and its row, as the gateway does; return the file id. Not for use in a coroutine."""
        return asyncio.run(self._upload(content, filename, owner))

    async def _upload(self, content: bytes, filename: str, owner: str) -> str:
        async def stream() -> AsyncIterator[bytes]:
            yield content

        stored = await FileStore(self.platform.data_dir / "files").save(stream())
        facts = {"bytes": stored.bytes, "sha256": stored.sha256, "created_at": now()}
        database = Database(async_database_url(self.platform.environment["TUNESMITH_DATABASE_URL"]))
        async with database.session() as session:
            session.add(File(id=stored.id, owner=owner, filename=filename, purpose="assistants", **facts))
        await database.close()
        return stored.id


@contextmanager
def rag_at(folder: Path, engine_platform: Platform, **environment: str) -> Iterator[Rag]:
    """A service with its data in `folder`."""
    engine_url = engine_platform.services["engine"].url
    with platform_at(folder, **{"TUNESMITH_OLLAMA_HOST": engine_url, **environment}) as platform:
        platform.start("rag")
        yield Rag(platform)
