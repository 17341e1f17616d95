"""Make the binary sample documents (PDF, DOCX, PPTX, XLSX) in `samples/`.

The samples are our own text, CC0, about a ferry line that does not exist. The files are
committed; this script is how they were made: `python scripts/make_samples.py`.
"""

from pathlib import Path

import docx
import openpyxl
import pptx
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

SAMPLES = Path(__file__).parent.parent / "samples"

REPORT: list[list[tuple[str, str]]] = [
    [
        ("title", "Annual report 2025"),
        (
            "text",
            "The Norrholm Line carried 312,480 passengers in 2025, four per cent more than the "
            "year before. Traffic grew most in May and September, when the new weekend departures "
            "brought hikers to the island. 41,905 cars crossed, two per cent fewer than in 2024.",
        ),
        ("heading", "Punctuality"),
        (
            "text",
            "Of 5,824 planned departures 5,731 were sailed. Of the 93 that were cancelled, 71 fell "
            "to the weather and 22 to technical faults. 94.6 per cent of all departures left "
            "within five minutes of the timetable. The longest interruption was the storm of 18 and "
            "19 November, when no ship left port for 31 hours.",
        ),
        ("heading", "Staff"),
        (
            "text",
            "At the end of the year 46 people worked for the line, 19 of them at sea. Sick leave fell "
            "from 5.8 to 4.9 per cent. Two deck officers completed their training as masters, and "
            "the line took on three apprentices, more than in any year since 2011.",
        ),
    ],
    [
        ("heading", "Electrification of Havsanemon"),
        (
            "text",
            "In March a battery pack of 1,150 kilowatt-hours was installed in Havsanemon. The pack "
            "cost 9.4 million kronor, of which the climate fund paid 3.5 million. Since April the "
            "ship has sailed the first and the last three kilometres of each crossing without "
            "diesel. Diesel consumption of the whole line fell from 486,000 to 371,000 litres.",
        ),
        ("heading", "Result"),
        (
            "text",
            "Income was 38.7 million kronor and costs were 37.2 million, so that the year closed with "
            "a surplus of 1.5 million kronor. The board proposes to put 1.2 million of it aside for "
            "a new gangway in Sundby and to carry the rest forward.",
        ),
        ("heading", "Outlook"),
        (
            "text",
            "For 2026 the line expects 320,000 passengers. The charging station in Sundby is to open "
            "in August. The board will decide by the end of the year whether Tordmule is to be rebuilt "
            "or replaced; both options were costed by the naval architects Berg & Dahl in October.",
        ),
    ],
]


def _wrap(canvas: Canvas, text: str, font: str, size: float, width: float) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if canvas.stringWidth(longer, font, size) > width:
            lines.append(line)
            line = word
        else:
            line = longer
    return [*lines, line]


def make_pdf(path: Path) -> None:
    """A two-page report with running header, footer, headings and an outline."""
    canvas = Canvas(str(path), pagesize=A4, invariant=1)
    canvas.setTitle("Norrholm Line: annual report 2025")
    canvas.setAuthor("Norrholm Line")
    styles = {
        "title": ("Helvetica-Bold", 22, 30),
        "heading": ("Helvetica-Bold", 14, 22),
        "text": ("Helvetica", 10.5, 15),
    }
    for number, page in enumerate(REPORT, 1):
        canvas.setFont("Helvetica", 8)
        canvas.drawString(70, 805, "Norrholm Line - annual report 2025")
        canvas.drawCentredString(297, 40, f"Page {number} of {len(REPORT)}")
        y = 760.0
        for kind, text in page:
            font, size, leading = styles[kind]
            if kind != "text":
                canvas.bookmarkPage(text)
                canvas.addOutlineEntry(text, text, 0 if kind == "title" else 1)
                y -= 10
            for line in _wrap(canvas, text, font, size, 455):
                canvas.setFont(font, size)
                canvas.drawString(70, y, line)
                y -= leading
            y -= 6
        canvas.showPage()
    canvas.save()


def make_docx(path: Path) -> None:
    """Minutes of a board meeting with headings, a list and a table."""
    document = docx.Document()
    document.core_properties.title = "Minutes of the board, 14 October 2025"
    document.core_properties.author = "Secretary of the board"
    document.add_heading("Minutes of the board, 14 October 2025", 0)
    document.add_paragraph("Present: Ebba Strand (chair), Olof Nyman, Signe Dahl, Per Ask.")
    document.add_heading("Ticket prices", 1)
    document.add_paragraph(
        "The board resolved to raise single fares by three kronor from 1 January 2026 and to leave "
        "the prices of season tickets unchanged. Per Ask voted against."
    )
    document.add_heading("Quay in Sundby", 1)
    document.add_paragraph(
        "The inspection found rust in the sheet piling below the waterline. Until the piling has been "
        "renewed, vehicles above 12 tonnes may not use the inner berth. Signe Dahl is to ask three "
        "firms for tenders by 30 November."
    )
    document.add_heading("Decisions", 1)
    for text in (
        "The café is leased to Bryggan AB for three years at 18,000 kronor a month.",
        "The line joins the joint ticket of the county from 1 June 2026.",
        "Ebba Strand is to sign the contract for the charging station.",
    ):
        document.add_paragraph(text, style="List Bullet")
    table = document.add_table(rows=1, cols=3)
    for cell, text in zip(table.rows[0].cells, ("Task", "Who", "Until"), strict=True):
        cell.text = text
    for row in (
        ("Tenders for the piling", "Signe Dahl", "30 November 2025"),
        ("Lease of the café", "Olof Nyman", "15 December 2025"),
        ("Report on winter traffic", "Per Ask", "14 April 2026"),
    ):
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    document.save(str(path))


def make_pptx(path: Path) -> None:
    """Three slides of a safety briefing, with notes."""
    show = pptx.Presentation()
    slides = [
        (
            "Safety briefing for new crew",
            ["Muster drill every first Monday of the month", "Life jackets: 320 on Havsanemon"],
            "Show where the children's life jackets are: under the stairs on the main deck.",
        ),
        (
            "Man overboard",
            [
                "Shout, throw a ring buoy, point and never look away",
                "The helm turns towards the side on which the person fell",
                "The rescue boat must be in the water within five minutes",
            ],
            "",
        ),
        (
            "Batteries on fire",
            [
                "Do not open the battery room",
                "Start the water mist from the panel on the bridge",
                "Ventilate for at least two hours before anyone goes in",
            ],
            "The gas is toxic even when no smoke can be seen.",
        ),
    ]
    for title, points, notes in slides:
        slide = show.slides.add_slide(show.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = "\n".join(points)
        if notes:
            slide.notes_slide.notes_text_frame.text = notes
    show.save(str(path))


def make_xlsx(path: Path) -> None:
    """Fares by kind of ticket and passenger."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Fares 2026"
    sheet.append(["Ticket", "Adult", "Youth 7-19", "Senior", "Car up to 6 m"])
    for row in (
        ["Single", 68, 34, 51, 185],
        ["Return", 124, 62, 93, 340],
        ["Ten crossings", 540, 270, 405, 1490],
        ["Season ticket, month", 890, 445, 670, 2900],
        ["Season ticket, year", 8900, 4450, 6700, 29000],
    ):
        sheet.append(row)
    other = book.create_sheet("Freight")
    other.append(["Goods", "Price per metre", "Booking"])
    other.append(["Lorry", 95, "one working day ahead"])
    other.append(["Trailer without driver", 80, "two working days ahead"])
    other.append(["Livestock", 110, "two working days ahead"])
    book.save(path)


if __name__ == "__main__":
    make_pdf(SAMPLES / "annual-report-2025.pdf")
    make_docx(SAMPLES / "board-minutes.docx")
    make_pptx(SAMPLES / "safety-briefing.pptx")
    make_xlsx(SAMPLES / "fares.xlsx")
